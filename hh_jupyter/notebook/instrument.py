"""`%hh instrument`: switches the instrumentors of LLM libraries on and off, and the hint at untraced libraries.

Each library gets one instrumentor, because two would make two spans of every call: its own tracing if that is complete,
else the installed one whose `InstrumentorFamily` comes first.
"""

from __future__ import annotations

import ast
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final, Protocol

from IPython.core.error import UsageError

from hh_jupyter.conventions.capture import ContentCapture
from hh_jupyter.notebook.libraries import (
    LIBRARIES,
    InstalledInstrumentor,
    InstrumentorFamily,
    installed_instrumentors,
    is_installed,
    known_name,
    library_of,
)
from hh_jupyter.records.selection import did_you_mean
from hh_jupyter.tracing.processor import is_global
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# Libraries with tracing of their own: their switches, wrapped in the methods of an OpenTelemetry instrumentor.


class PydanticAI:
    """`Agent.instrument_all`: traces every agent that does not set `instrument` itself."""

    _before: ClassVar[Any] = None
    _ours: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on, also if the user switched it on. Does not import the library."""
        agent = getattr(sys.modules.get("pydantic_ai"), "Agent", None)
        return bool(getattr(agent, "_instrument_default", False))

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Switch the tracing on."""
        from pydantic_ai import Agent
        from pydantic_ai.models.instrumented import InstrumentationSettings

        kind = type(self)
        kind._before = getattr(Agent, "_instrument_default", False)
        kind._ours = InstrumentationSettings(tracer_provider=tracer_provider)
        Agent.instrument_all(kind._ours)

    def uninstrument(self) -> None:
        """Restore the previous setting, unless it was changed since."""
        from pydantic_ai import Agent

        if getattr(Agent, "_instrument_default", None) is type(self)._ours:
            Agent.instrument_all(type(self)._before)
        type(self)._ours = None


class OpenAIAgents:
    """`add_trace_processor`: converts the spans that the Agents SDK makes to OpenTelemetry spans."""

    _processor: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether our processor converts the SDK's spans."""
        processor = type(self)._processor
        return processor is not None and processor.tracer is not None

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Add our processor. It is added once only, because the SDK cannot remove one."""
        from agents import add_trace_processor
        from opentelemetry import trace as otel_trace

        from hh_jupyter.notebook.agents_spans import AgentsProcessor

        kind = type(self)
        if kind._processor is None:
            kind._processor = AgentsProcessor()
            add_trace_processor(kind._processor)
        provider = tracer_provider or otel_trace.get_tracer_provider()
        kind._processor.tracer = provider.get_tracer("hh_jupyter.openai_agents")

    def uninstrument(self) -> None:
        """Switch the processor off."""
        type(self)._processor.tracer = None


OWN_TRACING: Final = {
    name: EntryPoint(name, f"{__name__}:{kind.__name__}", "hh_jupyter")
    for name, kind in {"pydantic_ai": PydanticAI, "openai_agents": OpenAIAgents}.items()
}
"""In the form of the entry points of installed instrumentors."""

PREFERRED: Final = frozenset({"pydantic_ai"})
"""The libraries whose own tracing records most. That of the Agents SDK is used if no instrumentor is installed."""


logger = logging.getLogger(__name__)


class Instrumentor(Protocol):
    """The part of OpenTelemetry's `BaseInstrumentor` that is used here; a process has one instance for each library."""

    @property
    def is_instrumented_by_opentelemetry(self) -> bool: ...
    def instrument(self, **kwargs: Any) -> Any: ...
    def uninstrument(self, **kwargs: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class InstrumentReport:
    """The result of one `%hh instrument`; `str` gives the lines to print."""

    traced: tuple[str, ...]
    problems: tuple[str, ...]
    nothing: str = "no instrumentor is installed."

    def __str__(self) -> str:
        traced = f"hh: tracing {', '.join(self.traced)}." if self.traced else f"hh: {self.nothing}"
        return "\n".join((*((traced,) if self.traced or not self.problems else ()), *self.problems))


@dataclass(slots=True)
class _Active:
    """An instrumentor that is on, with its name and version for `--list`."""

    instrumentor: Instrumentor
    label: str


class Instrumentors:
    """The instrumentors that `%hh instrument` switched on. Those of the user's own code are left alone."""

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._on: dict[str, _Active] = {}
        self._capture = ContentCapture()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the libraries whose instrumentor was switched on."""
        return tuple(sorted(self._on))

    def known(self) -> tuple[str, ...]:
        """The valid names: first the libraries that can be traced at once, then the others."""
        return tuple(dict.fromkeys((*sorted(_instrumentors_by_library()), *LIBRARIES)))

    def switch_on(self, names: Iterable[str] = ()) -> InstrumentReport:
        """Trace the named libraries; without names, every installed LLM library that can be traced.

        Raises:
            UsageError: a name is unknown.
        """
        requested = tuple(dict.fromkeys(map(known_name, names)))
        choices = _instrumentors_by_library()
        _check(requested, choices)
        traced, problems = [], []
        for name in requested or self._installed(choices):
            problem = self._switch_on(name, choices.get(name, []))
            if problem is None or self._traces_itself(name):
                traced.append(name)
            if problem is not None and (requested or name in LIBRARIES):
                problems.append(problem)
        return InstrumentReport(tuple(traced), tuple(problems))

    def switch_off(self, names: Iterable[str] = ()) -> InstrumentReport:
        """Switch off the instrumentors of the named libraries; without names, all that were switched on.

        Raises:
            UsageError: a name is unknown.
        """
        requested = tuple(dict.fromkeys(map(known_name, names)))
        _check(requested, _instrumentors_by_library())
        others = [f"hh: {name} was not switched on with %hh instrument." for name in requested if name not in self._on]
        for name in [name for name in self.names if not requested or name in requested]:
            on = self._on.pop(name)
            _restore(on.instrumentor)
            try:
                if on.instrumentor.is_instrumented_by_opentelemetry:
                    on.instrumentor.uninstrument()
            except Exception:  # boundary: other people's code; the remaining ones must be switched off, too
                logger.warning("cannot switch off the instrumentor of %s", name, exc_info=True)
            self._capture.switch_off(name)
        return InstrumentReport(self.names, tuple(others), nothing="no library is traced by %hh instrument.")

    def listed(self) -> str:
        """One line for each installed LLM library: whether it is traced, and by what."""
        choices = _instrumentors_by_library()
        rows = [self._row(name, choices.get(name, [])) for name in self._installed(choices)]
        if not rows:
            return "hh: no LLM library is installed."
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(f"hh: {name:{width}}  {state:3}  {by}" for name, state, by in rows)

    def is_traced(self, name: str) -> bool:
        """Whether the library's calls make spans: with an instrumentor of ours or the user's, or its own tracing.

        Imports nothing.
        """
        on = name in self._on or self._traces_itself(name)
        return on or any(_is_on(choice) for choice in _instrumentors_by_library().get(name, []))

    def _traces_itself(self, name: str) -> bool:
        """Whether the library makes spans without an instrumentor, and they reach this tracer."""
        library = LIBRARIES.get(name)
        return library is not None and is_global(self._tracer.provider) and library.traces_itself()

    def _installed(self, choices: Mapping[str, list[InstalledInstrumentor]]) -> list[str]:
        """The names of the installed LLM libraries, without those that are mostly used for other things."""
        known = {name for name, library in LIBRARIES.items() if is_installed(library.distribution)}
        others = {
            name
            for name, (first, *_) in choices.items()
            if name not in LIBRARIES and first.is_for_llms() and first.has_library()
        }
        listed = {name for name in known if name in choices or not LIBRARIES[name].general or self._traces_itself(name)}
        return sorted(others | listed)

    def _row(self, name: str, choices: list[InstalledInstrumentor]) -> tuple[str, str, str]:
        if name in self._on:
            return name, "on", self._on[name].label
        active = next((choice for choice in choices if _is_on(choice)), None)
        if active is not None:
            return name, "on", f"{_label(active)}, not by %hh instrument"
        if self._traces_itself(name):
            return name, "on", InstrumentorFamily.OWN.title + _without_messages(name, choices)
        return name, "off", _label(choices[0]) if choices else f"%pip install {LIBRARIES[name].package}"

    def _switch_on(self, name: str, choices: list[InstalledInstrumentor]) -> str | None:
        """Switch on the best instrumentor of a library. Returns None on success, else a line with the problem."""
        if name in self._on or any(_is_on(choice) for choice in choices):
            return None
        itself = self._traces_itself(name)
        if itself and LIBRARIES[name].complete:
            return None
        problem = None
        for choice in choices:
            try:
                instrumentor: Instrumentor = choice.entry.load()()
                self._capture.switch_on(name, choice.entry.module, self._tracer.settings)
                instrumentor.instrument(
                    tracer_provider=self._tracer.provider,
                    logger_provider=self._tracer.provider_binding.logger_provider(),
                    raise_exception_on_conflict=True,
                )
            except Exception as error:  # boundary: an instrumentor may raise anything; try the next one
                self._capture.switch_off(name)
                problem = problem or _failure(choice, error, itself=itself)
                continue
            self._on[name] = _Active(instrumentor, _label(choice))
            self._yield_to_user(name, instrumentor)
            return None
        return problem or (None if itself else _missing(name))

    def _yield_to_user(self, name: str, instrumentor: Instrumentor) -> None:
        """Make a later `XInstrumentor().instrument()` in user code work without a warning.

        OpenTelemetry returns the same object for it. With another `tracer_provider` the user's call takes the library
        over; otherwise it changes nothing.
        """
        original = instrumentor.instrument

        def instrument(**kwargs: Any) -> Any:
            provider = kwargs.get("tracer_provider")
            if provider is None or provider is self._tracer.provider:
                return None
            _restore(instrumentor)
            self._on.pop(name, None)
            self._capture.switch_off(name)
            instrumentor.uninstrument()
            return original(**kwargs)

        try:
            instrumentor.instrument = instrument  # type: ignore[method-assign]  # On this object only.
        except AttributeError:
            logger.debug("cannot wrap instrument() of the instrumentor of %s", name)


def _restore(instrumentor: Instrumentor) -> None:
    """Undo `_yield_to_user`: restore the `instrument` method of the object's class."""
    vars(instrumentor).pop("instrument", None)


def _instrumentors_by_library() -> dict[str, list[InstalledInstrumentor]]:
    """The instrumentors of each library, including its own tracing, the preferred one first."""
    found = installed_instrumentors()
    for name, entry in OWN_TRACING.items():
        if is_installed(LIBRARIES[name].distribution):
            own, others = InstalledInstrumentor(name, InstrumentorFamily.OWN, "", entry), found.get(name, [])
            found[name] = [own, *others] if name in PREFERRED else [*others, own]
    return found


def _check(requested: Iterable[str], choices: Iterable[str]) -> None:
    """Raise UsageError for an unknown library."""
    known = sorted({*choices, *LIBRARIES})
    unknown = next((name for name in requested if name not in known), None)
    if unknown is not None:
        library = library_of(unknown)  # A module of it, such as langgraph of langchain.
        hint = f"Did you mean {library.name}?" if library is not None else did_you_mean(unknown, known)
        raise UsageError(f"%hh instrument: unknown library {unknown}. {hint}")


def _is_on(choice: InstalledInstrumentor) -> bool:
    """Whether this instrumentor is on. It is off if its module is not imported."""
    if choice.family is not InstrumentorFamily.OWN and choice.entry.module not in sys.modules:
        return False
    try:
        return bool(choice.entry.load()().is_instrumented_by_opentelemetry)
    except Exception:  # boundary: other people's code
        logger.debug("cannot determine whether the instrumentor of %s is on", choice.name, exc_info=True)
        return False


def _label(choice: InstalledInstrumentor) -> str:
    return f"{choice.family.title} {choice.version}".strip()


def _without_messages(name: str, choices: list[InstalledInstrumentor]) -> str:
    """A hint how to record messages as well; empty if the library's own spans have them."""
    if LIBRARIES[name].complete:
        return ""
    return f"; with messages: {f'%hh instrument {name}' if choices else f'%pip install {LIBRARIES[name].package}'}"


def _missing(name: str) -> str:
    """The line for a library without an installed instrumentor."""
    library = LIBRARIES.get(name)
    if library is None:
        return f"hh: {name} is not traced. %pip install {name}"
    if library.traces_itself():
        return f"hh: {name} is not traced: it uses OpenTelemetry's global provider, which is not the one of hh_jupyter."
    return f"hh: {name} is not traced. %pip install {library.package or library.distribution}"


def _failure(choice: InstalledInstrumentor, error: Exception, *, itself: bool) -> str:
    """The line for an instrumentor that could not be switched on. A version conflict names the versions that work."""
    reason = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "DependencyConflictError":
        reason = _conflict(choice, getattr(error, "conflict", None)) or reason
    state = "traces itself, without messages" if itself else "is not traced"
    return f"hh: {choice.name} {state}: {reason}"


def _conflict(choice: InstalledInstrumentor, conflict: Any) -> str | None:
    """Describe a version conflict: which package is missing, too old or too new. None if the error has no details."""
    from packaging.requirements import Requirement  # Installed: the instrumentor that raised the error depends on it.

    required = getattr(conflict, "required", None)
    requirements = [required] if required else list(getattr(conflict, "required_any", None) or ())
    if not requirements:
        return None
    alternatives = [Requirement(str(each)) for each in requirements]
    wanted = next((each for each in alternatives if is_installed(each.name)), alternatives[0])
    install = f"%pip install '{wanted.name}{wanted.specifier}'"
    if not is_installed(wanted.name):
        return f"{wanted.name} is missing. {install}"
    found = importlib.metadata.version(wanted.name)
    supported = f"{choice.package or choice.name} {choice.version}, which supports {wanted.specifier}"
    if any(_is_exceeded(bound, found) for bound in wanted.specifier):
        newer = f"%pip install -U {choice.package}, or " if choice.package else ""
        return f"{wanted.name} {found} is too new for {supported}. {newer}{install}"
    return f"{wanted.name} {found} is too old for {supported}. {install}"


def _is_exceeded(bound: Any, found: str) -> bool:
    """Whether a version is above the upper bound of one clause of a requirement."""
    from packaging.version import Version

    if bound.contains(found, prereleases=True) or bound.operator not in {"<", "<=", "~=", "=="}:
        return False
    return bool(Version(found) >= Version(bound.version.removesuffix(".*")))


# The hint for a cell that used an untraced LLM library: without it, the cell would show nothing and no reason.


class UntracedHint:
    """Hints once for each library that it is not traced.

    Args:
        is_traced: whether the library of this name is traced.
        transform: IPython's transformation of a cell's text to Python.
        names: the user's namespace.
    """

    def __init__(
        self, is_traced: Callable[[str], bool], transform: Callable[[str], str], names: Mapping[str, Any]
    ) -> None:
        self._is_traced, self._transform, self._names = is_traced, transform, names
        self._hinted: set[str] = set()

    def for_cell(self, cell: str) -> str | None:
        """The hint for a cell that made no spans, or None.

        Args:
            cell: the cell's text.
        """
        loaded = {name for name, library in LIBRARIES.items() if library.modules[0] in sys.modules} - self._hinted
        if not loaded:
            return None
        for used in _used(self._transform(cell), self._names):
            library = library_of(_module_of(used))
            if library is None or library.name not in loaded or not is_installed(library.distribution):
                continue
            if not self._is_traced(library.name):
                self._hinted.add(library.name)
                return f"hh: {library.name} is not traced. %hh instrument {library.name}"
        return None


def _used(code: str, names: Mapping[str, Any]) -> Iterator[Any]:
    """The objects that the code calls or passes to a call, and those that the user's functions among them refer to."""
    objects, followed = list(_called(code, names)), set()
    for used in objects:  # The list grows.
        yield used
        if isinstance(used, FunctionType) and used.__module__ == "__main__" and used not in followed:
            followed.add(used)
            referred = (names.get(name) for name in used.__code__.co_names)
            objects += (value for value in referred if not isinstance(value, type))


def _called(code: str, names: Mapping[str, Any]) -> Iterator[Any]:
    """The objects that the code calls or passes to a call when it runs, also in the body of a cell magic.

    Imports, definitions and the creation of clients do not count: `openai.OpenAI()` sends nothing.
    """
    try:
        pending: list[ast.AST] = [ast.parse(code)]
    except (SyntaxError, ValueError, RecursionError, SystemError):  # The last one: see `conventions.literals`.
        return
    while pending:
        node = pending.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
        if not isinstance(node, ast.Call):
            continue
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        callee = names.get(_root_name(node.func))
        if isinstance(callee, ModuleType):
            creates = attribute[:1].isupper()
        else:
            creates = isinstance(callee, type) and not attribute  # Not `ChatOpenAI().invoke()`.
        if not creates:
            yield callee
        passed = [*node.args, *(keyword.value for keyword in node.keywords)]
        objects = (names.get(value.id) for value in passed if isinstance(value, ast.Name))
        yield from (value for value in objects if not isinstance(value, ModuleType | type | FunctionType))
        for body in passed[-1:]:
            if attribute == "run_cell_magic" and isinstance(body, ast.Constant):
                yield from _called(str(body.value), names)


def _module_of(value: Any) -> str:
    """The module that the value is, or that defines it or its class."""
    if isinstance(value, ModuleType):
        return value.__name__
    return str((value if isinstance(value, type | FunctionType) else type(value)).__module__)


def _root_name(node: ast.AST) -> str:
    """`client` in `client.chat.completions.create`; calls and subscripts are skipped. Empty if there is no name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
