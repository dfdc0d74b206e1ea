"""The LLM libraries known here, and what can trace each of them, found among the installed packages."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Final


class Family(IntEnum):
    """Whose instrumentor it is, in the order in which they are preferred: those that record most come first."""

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
        package: the instrumentor to install for it; empty for a library that traces itself.
        general: most who have it installed use it for something else: it is not missed where nothing can trace it.
    """

    name: str
    distribution: str
    modules: tuple[str, ...]
    package: str = ""
    general: bool = False


def _library(name: str, distribution: str = "", *modules: str, own: bool = False, general: bool = False) -> Library:
    package = "" if own else f"openinference-instrumentation-{name.replace('_', '-')}"
    return Library(name, distribution or name.replace("_", "-"), modules or (name,), package, general)


LIBRARIES: Final = {
    library.name: library
    for library in (
        _library("agno"),
        _library("anthropic"),
        _library("bedrock", "boto3", "boto3", "botocore", general=True),
        _library("cohere"),
        _library("crewai"),
        _library("dspy"),
        _library("google_genai", "google-genai", "google.genai"),
        _library("groq"),
        _library("guardrails", "guardrails-ai"),
        _library("haystack", "haystack-ai"),
        _library("instructor"),
        _library("langchain", "langchain-core", "langchain_core", "langchain*", "langgraph"),
        _library("litellm"),
        _library("llama_index", "llama-index-core"),
        _library("mistralai"),
        _library("ollama"),
        _library("openai"),
        _library("openai_agents", "openai-agents", "agents"),
        _library("portkey", "portkey-ai", "portkey_ai"),
        _library("pydantic_ai", "pydantic-ai-slim", own=True),
        _library("smolagents"),
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
    """

    name: str
    family: Family
    version: str
    entry: EntryPoint


def candidates() -> dict[str, list[Candidate]]:
    """The installed instrumentors by name, for each name the preferred one first.

    Of OpenTelemetry's own group the ones for LLM libraries and all others, such as `requests` and `sqlalchemy`.
    """
    found: dict[str, dict[str, Candidate]] = {}
    for candidate in _entries():
        found.setdefault(candidate.name, {}).setdefault(candidate.entry.value, candidate)
    return {name: sorted(each.values(), key=lambda one: one.family) for name, each in found.items()}


def known_name(name: str) -> str:
    """The name of a library as it is written here: `llama-index` and `LlamaIndex` are `llama_index`."""
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
            name = known_name(entry.name)
            distribution = entry.dist.name if entry.dist is not None else ""
            version = entry.dist.version if entry.dist is not None else ""
            yield Candidate(name, _family(distribution, name), version, entry)


def _family(distribution: str, name: str) -> Family:
    if distribution.startswith("openinference"):
        return Family.OPENINFERENCE
    official = name not in LIBRARIES or "-genai-" in distribution or distribution.endswith(("-v2", "google-genai"))
    return Family.OPENTELEMETRY if official else Family.OPENLLMETRY


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _by_letters(names: Iterable[str]) -> dict[str, str]:
    return {_letters(name): name for name in names}


_BY_LETTERS: Final = _by_letters(LIBRARIES)
