"""The LLM libraries known here, and what can trace each of them, found among the installed packages."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final


class Family(IntEnum):
    """The project that an instrumentor comes from, in order of preference: the one that records most comes first."""

    OWN = 0
    OPENINFERENCE = 1
    OPENLLMETRY = 2
    OPENTELEMETRY = 3

    @property
    def title(self) -> str:
        """As `%hh instrument --list` shows it."""
        return _TITLES[self]


_TITLES: Final = {
    Family.OWN: "its own tracing",
    Family.OPENINFERENCE: "OpenInference",
    Family.OPENLLMETRY: "OpenLLMetry",
    Family.OPENTELEMETRY: "OpenTelemetry",
}


@dataclass(frozen=True, slots=True)
class Library:
    """An LLM library.

    Attributes:
        name: what is typed after `%hh instrument`.
        distribution: as pip knows it.
        modules: whose objects are the library's, the first one always loaded with it; one that ends in "*" is the
            beginning of names.
        package: the instrumentor to install for it, and the preferred one; empty for a library that traces itself.
        general: mostly used for something else (boto3): without an instrumentor, no hint asks to install one.
        tracing: its module that makes spans through OpenTelemetry's global provider; empty without one. Older versions
            may lack it.
        complete: its own spans say as much as an instrumentor's, which would only record every call twice.
    """

    name: str
    distribution: str
    modules: tuple[str, ...]
    package: str = ""
    general: bool = False
    tracing: str = ""
    complete: bool = False

    def traces_itself(self) -> bool:
        """Whether the installed version has the module that makes spans; imports nothing."""
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
        # OpenInference's instrumentor makes no spans, it only passes on the context.
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
class Candidate:
    """An installed instrumentor.

    Attributes:
        name: the library's if it is known here, else the entry point's.
        version: of the package it comes from.
        instruments: the distributions that this package says it instruments, as pip knows them.
    """

    name: str
    family: Family
    version: str
    entry: EntryPoint
    instruments: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The distribution it comes from; empty where that is not known."""
        return self.entry.dist.name if self.entry.dist is not None else ""

    def is_preferred(self) -> bool:
        """Whether its package is the one that its library names."""
        return self.name in LIBRARIES and _letters(self.package) == _letters(LIBRARIES[self.name].package)

    def is_for_llms(self) -> bool:
        """Whether its family traces LLM libraries and what belongs to them only, unlike `requests` and `sqlalchemy`."""
        return self.family is not Family.OPENTELEMETRY or "-genai-" in self.package

    def has_library(self) -> bool:
        """Whether a library that its package declares to instrument is installed; True if it declares none."""
        return not self.instruments or any(map(is_installed, self.instruments))


def candidates() -> dict[str, list[Candidate]]:
    """The installed instrumentors by name, for each name the preferred one first.

    Of OpenTelemetry's own group the ones for LLM libraries and all others, such as `requests` and `sqlalchemy`.
    """
    found: dict[str, dict[str, Candidate]] = {}
    for candidate in _entries():
        found.setdefault(candidate.name, {}).setdefault(candidate.entry.value, candidate)
    order = lambda one: (not one.is_preferred(), one.family)  # noqa: E731  # Short, and used once.
    return {name: sorted(each.values(), key=order) for name, each in found.items()}


def known_name(name: str) -> str:
    """A library's name as used here. Case and punctuation do not matter: `llama-index`, `LlamaIndex`, `haystack-ai`."""
    return _BY_LETTERS.get(_letters(name), name.replace("-", "_"))


def library_of(module: str) -> Library | None:
    """The LLM library that a module belongs to, by its full name."""
    top = module.partition(".")[0]
    for library in LIBRARIES.values():
        for own in library.modules:
            if top.startswith(own[:-1]) if own.endswith("*") else f"{module}.".startswith(f"{own}."):
                return library
    return None


def is_installed(distribution: str) -> bool:
    """Whether pip installed it."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _entries() -> Iterator[Candidate]:
    # Many OpenInference packages are in both groups: here first, as what they are.
    for group in ("openinference_instrumentor", "opentelemetry_instrumentor"):
        for entry in entry_points(group=group):
            requires = tuple(entry.dist.requires or ()) if entry.dist is not None else ()
            instruments = tuple(_distribution(each) for each in requires if _INSTRUMENTS.search(each))
            version = entry.dist.version if entry.dist is not None else ""
            yield Candidate(_library_name(entry, instruments), _family(entry, requires), version, entry, instruments)


def _library_name(entry: EntryPoint, instruments: Sequence[str]) -> str:
    """The library that an entry point is for: by its own name, by its module's, or by what its package instruments.

    OpenLLMetry names some after what they instrument: `google_cloud_aiplatform` is in a module `vertexai`, and the
    package of `google_generativeai` instruments `google-genai`. `boto3` alone is no match: it is SageMaker and SQS too.
    """
    names = [entry.name, entry.module.rpartition(".")[2], *(instruments if len(instruments) == 1 else ())]
    known = (_BY_LETTERS.get(_letters(name)) for name in names)
    return next(filter(None, known), entry.name.replace("-", "_"))


def _family(entry: EntryPoint, requires: Iterable[str]) -> Family:
    if entry.module.startswith("openinference."):
        return Family.OPENINFERENCE
    ours = any(_letters(_distribution(each)) == _OPENLLMETRYS_NAMES for each in requires)
    return Family.OPENLLMETRY if ours else Family.OPENTELEMETRY


def _distribution(requirement: str) -> str:
    """The name at the beginning of a requirement."""
    return _NAME.split(requirement.strip(), maxsplit=1)[0]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_INSTRUMENTS: Final = re.compile(r"extra\s*==\s*['\"]instruments(?:-any)?['\"]")
_OPENLLMETRYS_NAMES: Final = "opentelemetrysemanticconventionsai"
"""The attribute names of OpenLLMetry, which all its packages require."""

_BY_LETTERS: Final = {
    **{_letters(library.distribution): name for name, library in LIBRARIES.items() if not library.general},
    **{_letters(name): name for name in LIBRARIES},
}
"""Names and distributions without case and signs -> the library's name."""
