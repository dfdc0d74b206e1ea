"""Switching on the instrumentors of LLM libraries, and off again what was switched on here."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.notebook.words import did_you_mean
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

OPENINFERENCE: Final = "openinference_instrumentor"
ANY: Final = "opentelemetry_instrumentor"
PACKAGE: Final = "openinference-instrumentation-{}"

LIBRARIES: Final = {
    "agno": "agno",
    "anthropic": "anthropic",
    "bedrock": "boto3",
    "cohere": "cohere",
    "crewai": "crewai",
    "dspy": "dspy",
    "google_genai": "google-genai",
    "groq": "groq",
    "guardrails": "guardrails-ai",
    "haystack": "haystack-ai",
    "instructor": "instructor",
    "langchain": "langchain-core",
    "litellm": "litellm",
    "llama_index": "llama-index-core",
    "mistralai": "mistralai",
    "ollama": "ollama",
    "openai": "openai",
    "openai_agents": "openai-agents",
    "portkey": "portkey-ai",
    "smolagents": "smolagents",
    "together": "together",
    "vertexai": "google-cloud-aiplatform",
}
"""OpenInference instrumentors (entry point name) and the distribution of the library each one traces."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one `%hh instrument` did, as lines to print."""

    traced: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        traced = f"hh: tracing {', '.join(self.traced)}." if self.traced else "hh: no instrumentor is installed."
        return "\n".join((traced, *self.problems))


class Instrumentors:
    """The instrumentors that were switched on here; those of the user's own are neither counted nor undone."""

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._on: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Entry point names of what is on."""
        return tuple(sorted(self._on))

    def known(self) -> tuple[str, ...]:
        """Names that `switch_on` takes: those whose instrumentor is installed, then the others."""
        return tuple(dict.fromkeys((*sorted(_installed(OPENINFERENCE)), *sorted(_installed(ANY)), *LIBRARIES)))

    def switch_on(self, names: Iterable[str] = ()) -> Report:
        """Switch on the named instrumentors; without names, every OpenInference one that is installed.

        Raises:
            UsageError: a name that neither an installed nor a known instrumentor has.
        """
        asked = tuple(dict.fromkeys(name.replace("-", "_") for name in names))
        # OpenInference wins over other instrumentors of the same library: two of them would count each call twice.
        found = _installed(ANY) | _installed(OPENINFERENCE) if asked else _installed(OPENINFERENCE)
        unknown = [name for name in asked if name not in found and name not in LIBRARIES]
        if unknown:
            raise UsageError(
                f"%hh instrument: no library {unknown[0]}. {did_you_mean(unknown[0], {*found, *LIBRARIES})}"
            )
        traced, problems = [], []
        for name in asked or sorted(found):
            problem = self._switch_on(name, found.get(name))
            if problem is None:
                traced.append(name)
            elif problem:
                problems.append(problem)
        if not asked:
            problems += [_missing(name) for name in LIBRARIES if name not in found and _is_installed(LIBRARIES[name])]
        return Report(tuple(traced), tuple(problems))

    def switch_off(self) -> None:
        """Undo what was switched on here."""
        while self._on:
            name, instrumentor = self._on.popitem()
            try:
                instrumentor.uninstrument()
            except Exception:  # boundary: somebody else's code, and the others must be undone as well
                logger.warning("%s could not be switched off.", name, exc_info=True)

    def _switch_on(self, name: str, entry: EntryPoint | None) -> str | None:
        """None when the library is traced now, else the sentence to show ("" for none)."""
        if name in self._on:
            return None
        if entry is None:
            return _missing(name)
        try:
            instrumentor = entry.load()()
            if instrumentor.is_instrumented_by_opentelemetry:
                return None
            instrumentor.instrument(tracer_provider=self._tracer.provider, raise_exception_on_conflict=True)
        except Exception as error:  # boundary: an instrumentor may fail in any way, the others go on
            if type(error).__name__ == "DependencyConflictError":
                library = LIBRARIES.get(name, name)
                return f"hh: {name} is not traced: {library} is missing or too old. %pip install -U {library}"
            return f"hh: {name} is not traced: {type(error).__name__}: {error}"
        self._on[name] = instrumentor
        return None


def _installed(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def _missing(name: str) -> str:
    return f"hh: {name} is not traced. %pip install {PACKAGE.format(name.replace('_', '-'))}"


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
