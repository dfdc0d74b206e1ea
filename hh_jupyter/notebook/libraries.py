"""The known LLM libraries, and the installed instrumentors that can trace them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final


class InstrumentorFamily(IntEnum):
    """The project of an instrumentor, in order of preference: the one that records most comes first."""

    OWN = 0
    OPENINFERENCE = 1
    OPENLLMETRY = 2
    OPENTELEMETRY = 3

    @property
    def title(self) -> str:
        """The name in `%hh instrument --list`."""
        return _TITLES[self]


_TITLES: Final = {
    InstrumentorFamily.OWN: "its own tracing",
    InstrumentorFamily.OPENINFERENCE: "OpenInference",
    InstrumentorFamily.OPENLLMETRY: "OpenLLMetry",
    InstrumentorFamily.OPENTELEMETRY: "OpenTelemetry",
}


@dataclass(frozen=True, slots=True)
class Library:
    """An LLM library.

    Attributes:
        name: the argument of `%hh instrument`.
        distribution: the library's package on PyPI.
        modules: the modules of its objects; importing the library loads the first. A final "*" matches any ending.
        package: the preferred instrumentor on PyPI; empty for a library that traces itself.
        general: mostly used for other things (boto3); no hint suggests to install an instrumentor.
        tracing: the library's module that makes spans with OpenTelemetry's global provider, which older versions may
            not have; empty if there is none.
        complete: the library's own spans have everything; an instrumentor would only record every call twice.
    """

    name: str
    distribution: str
    modules: tuple[str, ...]
    package: str = ""
    general: bool = False
    tracing: str = ""
    complete: bool = False

    def traces_itself(self) -> bool:
        """Whether the installed version has the module that makes spans. Imports nothing."""
        if not self.tracing:
            return False
        try:
            installed = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return False
        return Path(str(installed.locate_file(f"{self.tracing.replace('.', '/')}.py"))).is_file()


def _library(name: str, distribution: str = "", *modules: str, package: str | None = None, **more: Any) -> Library:
    if package is None:
        package = f"openinference-instrumentation-{name.replace('_', '-')}"
    return Library(name, distribution or name.replace("_", "-"), modules or (name,), package, **more)


LIBRARIES: Final = {
    library.name: library
    for library in (
        _library("agno"),
        _library("anthropic", tracing="anthropic._tracing"),
        _library("bedrock", "boto3", "boto3", "botocore", general=True),
        _library("cohere"),
        _library("crewai"),
        _library("dspy"),
        _library("google_adk", "google-adk", "google.adk", tracing="google.adk.telemetry.tracing", complete=True),
        _library("google_genai", "google-genai", "google.genai"),
        _library("groq"),
        _library("guardrails", "guardrails-ai"),
        _library("haystack", "haystack-ai"),
        _library("instructor"),
        _library("langchain", "langchain-core", "langchain_core", "langchain*", "langgraph"),
        _library("litellm"),
        _library("llama_index", "llama-index-core"),
        # OpenInference's instrumentor makes no spans; it only propagates the context.
        _library(
            "mcp", package="opentelemetry-instrumentation-mcp", general=True, tracing="mcp.shared._otel", complete=True
        ),
        _library("mistralai"),
        _library("ollama"),
        _library("openai"),
        _library("openai_agents", "openai-agents", "agents"),
        _library("portkey", "portkey-ai", "portkey_ai"),
        _library("pydantic_ai", "pydantic-ai-slim", package=""),
        _library("smolagents"),
        _library("strands", "strands-agents", package="", tracing="strands.telemetry.tracer", complete=True),
        _library("together"),
        _library("vertexai", "google-cloud-aiplatform", general=True),
    )
}


@dataclass(frozen=True, slots=True)
class InstalledInstrumentor:
    """An installed instrumentor.

    Attributes:
        name: of the library if it is known, else of the entry point.
        family: the project it comes from.
        version: of its package.
        entry: its entry point.
        instruments: the packages that it declares to instrument.
    """

    name: str
    family: InstrumentorFamily
    version: str
    entry: EntryPoint
    instruments: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The name of its package; empty if unknown."""
        return self.entry.dist.name if self.entry.dist is not None else ""

    def is_preferred(self) -> bool:
        """Whether its package is the one that the library prefers."""
        return self.name in LIBRARIES and _normalized(self.package) == _normalized(LIBRARIES[self.name].package)

    def is_for_llms(self) -> bool:
        """Whether it is for an LLM library, unlike the instrumentors of `requests` or `sqlalchemy`."""
        return self.family is not InstrumentorFamily.OPENTELEMETRY or "-genai-" in self.package

    def has_library(self) -> bool:
        """Whether a library that its package declares to instrument is installed; True if it declares none."""
        return not self.instruments or any(map(is_installed, self.instruments))


def installed_instrumentors() -> dict[str, list[InstalledInstrumentor]]:
    """The installed instrumentors by name, the preferred one of each name first.

    They include OpenTelemetry's instrumentors for other libraries, such as `requests` and `sqlalchemy`.
    """
    found: dict[str, dict[str, InstalledInstrumentor]] = {}
    for instrumentor in _entries():
        found.setdefault(instrumentor.name, {}).setdefault(instrumentor.entry.value, instrumentor)
    order = lambda each: (not each.is_preferred(), each.family)  # noqa: E731  # Short, and used once.
    return {name: sorted(group.values(), key=order) for name, group in found.items()}


def known_name(name: str) -> str:
    """Normalize a library's name: case and punctuation are ignored (`llama-index`, `LlamaIndex`)."""
    return _BY_NORMALIZED_NAME.get(_normalized(name), name.replace("-", "_"))


def library_of(module: str) -> Library | None:
    """The LLM library of a module, by the module's full name; None if there is none."""
    top = module.partition(".")[0]
    for library in LIBRARIES.values():
        for own in library.modules:
            if top.startswith(own[:-1]) if own.endswith("*") else f"{module}.".startswith(f"{own}."):
                return library
    return None


def is_installed(distribution: str) -> bool:
    """Whether the package is installed."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _entries() -> Iterator[InstalledInstrumentor]:
    # Many OpenInference packages have entries in both groups; the first one counts.
    for group in ("openinference_instrumentor", "opentelemetry_instrumentor"):
        for entry in entry_points(group=group):
            requires = tuple(entry.dist.requires or ()) if entry.dist is not None else ()
            instruments = tuple(_distribution(each) for each in requires if _INSTRUMENTS.search(each))
            version = entry.dist.version if entry.dist is not None else ""
            yield InstalledInstrumentor(
                _library_name(entry, instruments), _family(entry, requires), version, entry, instruments
            )


def _library_name(entry: EntryPoint, instruments: Sequence[str]) -> str:
    """The library of an entry point: by its own name, its module's, or the package that it instruments.

    OpenLLMetry's names differ: `google_cloud_aiplatform` is in a module `vertexai`, and the package of
    `google_generativeai` instruments `google-genai`. `boto3` alone does not match: it is also SageMaker and SQS.
    """
    names = [entry.name, entry.module.rpartition(".")[2], *(instruments if len(instruments) == 1 else ())]
    known = (_BY_NORMALIZED_NAME.get(_normalized(name)) for name in names)
    return next(filter(None, known), entry.name.replace("-", "_"))


def _family(entry: EntryPoint, requires: Iterable[str]) -> InstrumentorFamily:
    if entry.module.startswith("openinference."):
        return InstrumentorFamily.OPENINFERENCE
    is_openllmetry = any(_normalized(_distribution(each)) == _OPENLLMETRY_CONVENTIONS for each in requires)
    return InstrumentorFamily.OPENLLMETRY if is_openllmetry else InstrumentorFamily.OPENTELEMETRY


def _distribution(requirement: str) -> str:
    """The package name of a requirement."""
    return _NAME.split(requirement.strip(), maxsplit=1)[0]


def _normalized(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_INSTRUMENTS: Final = re.compile(r"extra\s*==\s*['\"]instruments(?:-any)?['\"]")
_OPENLLMETRY_CONVENTIONS: Final = "opentelemetrysemanticconventionsai"
"""The package with OpenLLMetry's attribute names, which all its instrumentors require."""

_BY_NORMALIZED_NAME: Final = {
    **{_normalized(library.distribution): name for name, library in LIBRARIES.items() if not library.general},
    **{_normalized(name): name for name in LIBRARIES},
}
"""Normalized names and packages -> the library's name."""
