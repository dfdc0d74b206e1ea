"""`%hh instrument`: switches the instrumentors of LLM libraries on and off, and hints at untraced ones.

Each library gets one: its own tracing where that says enough, else the installed instrumentor that comes first in
`Family`. Two of them would make two spans of every call.
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

from hh_jupyter.notebook.content_capture import ContentCapture
from hh_jupyter.notebook.libraries import (
    LIBRARIES,
    Candidate,
    Family,
    Library,
    candidates,
    is_installed,
    known_name,
    library_of,
)
from hh_jupyter.notebook.parser import did_you_mean
from hh_jupyter.tracing.processor import is_global
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# Libraries that trace themselves: their own switches, behind the methods of an OpenTelemetry instrumentor.


class PydanticAI:
    """`Agent.instrument_all`: every agent that does not say otherwise itself."""

    _before: ClassVar[Any] = None
    _ours: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on, also where the user switched it on; asking does not import the library."""
        agent = getattr(sys.modules.get("pydantic_ai"), "Agent", None)
        return bool(getattr(agent, "_instrument_default", False))

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Switch it on."""
        from pydantic_ai import Agent
        from pydantic_ai.models.instrumented import InstrumentationSettings

        kind = type(self)
        kind._before = getattr(Agent, "_instrument_default", False)
        kind._ours = InstrumentationSettings(tracer_provider=tracer_provider)
        Agent.instrument_all(kind._ours)

    def uninstrument(self) -> None:
        """Back to what it was, unless somebody has changed it since."""
        from pydantic_ai import Agent

        if getattr(Agent, "_instrument_default", None) is type(self)._ours:
            Agent.instrument_all(type(self)._before)
        type(self)._ours = None


class OpenAIAgents:
    """`add_trace_processor`: the spans that the Agents SDK makes anyway, as OpenTelemetry's."""

    _processor: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether our processor takes the SDK's spans."""
        processor = type(self)._processor
        return processor is not None and processor.tracer is not None

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Add our processor, once; the SDK cannot remove one."""
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
        """Make the processor inert."""
        type(self)._processor.tracer = None


OWN_TRACING: Final = {
    name: EntryPoint(name, f"{__name__}:{kind.__name__}", "hh_jupyter")
    for name, kind in {"pydantic_ai": PydanticAI, "openai_agents": OpenAIAgents}.items()
}
"""Read like the entry points of installed instrumentors."""

PREFERRED: Final = frozenset({"pydantic_ai"})
"""Their own tracing tells most. That of the Agents SDK is used where no instrumentor is installed."""


logger = logging.getLogger(__name__)


class Instrumentor(Protocol):
    """What OpenTelemetry's `BaseInstrumentor` offers, of which a process has one instance for each library."""

    @property
    def is_instrumented_by_opentelemetry(self) -> bool: ...
    def instrument(self, **kwargs: Any) -> Any: ...
    def uninstrument(self, **kwargs: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Report:
    """What one `%hh instrument` did, as lines to print."""

    traced: tuple[str, ...]
    problems: tuple[str, ...]
    nothing: str = "no instrumentor is installed."

    def __str__(self) -> str:
        traced = f"hh: tracing {', '.join(self.traced)}." if self.traced else f"hh: {self.nothing}"
        return "\n".join((*((traced,) if self.traced or not self.problems else ()), *self.problems))


@dataclass(slots=True)
class _On:
    """An instrumentor that is on, and its name and version as `--list` shows them."""

    instrumentor: Instrumentor
    by: str


class Instrumentors:
    """The instrumentors that were switched on here; those of the user's own are neither counted nor undone."""

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._on: dict[str, _On] = {}
        self._capture = ContentCapture()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the libraries whose instrumentor was switched on here."""
        return tuple(sorted(self._on))

    def known(self) -> tuple[str, ...]:
        """Names that `switch_on` takes: those that can be traced at once, then the others."""
        return tuple(dict.fromkeys((*sorted(_choices()), *LIBRARIES)))

    def switch_on(self, names: Iterable[str] = ()) -> Report:
        """Trace the named libraries; without names, every LLM library that is installed and can be traced.

        Raises:
            UsageError: a name that neither an installed nor a known instrumentor has.
        """
        asked = tuple(dict.fromkeys(map(known_name, names)))
        choices = _choices()
        _check(asked, choices)
        traced, problems = [], []
        for name in asked or self._installed(choices):
            problem = self._switch_on(name, choices.get(name, []))
            if problem is None or self._traces_itself(name):
                traced.append(name)
            if problem is not None and (asked or name in LIBRARIES):
                problems.append(problem)
        return Report(tuple(traced), tuple(problems))

    def switch_off(self, names: Iterable[str] = ()) -> Report:
        """Undo what was switched on here: the named ones, without names all.

        Raises:
            UsageError: a name that no library has.
        """
        asked = tuple(dict.fromkeys(map(known_name, names)))
        _check(asked, _choices())
        others = [f"hh: {name} was not switched on by %hh instrument." for name in asked if name not in self._on]
        for name in [name for name in self.names if not asked or name in asked]:
            on = self._on.pop(name)
            _restore(on.instrumentor)
            try:
                if on.instrumentor.is_instrumented_by_opentelemetry:
                    on.instrumentor.uninstrument()
            except Exception:  # boundary: somebody else's code, and the others must be undone as well
                logger.warning("%s could not be switched off.", name, exc_info=True)
            self._capture.switch_off(name)
        return Report(self.names, tuple(others), nothing="no library is traced by %hh instrument.")

    def listed(self) -> str:
        """The LLM libraries that are installed, whether each is traced and by what: a line each."""
        choices = _choices()
        rows = [self._row(name, choices.get(name, [])) for name in self._installed(choices)]
        if not rows:
            return "hh: no LLM library is installed."
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(f"hh: {name:{width}}  {state:3}  {by}" for name, state, by in rows)

    def is_traced(self, name: str) -> bool:
        """Whether the library's calls make spans: through us, the user's own instrumentor, or its own tracing.

        Imports nothing.
        """
        on = name in self._on or self._traces_itself(name)
        return on or any(_is_on(choice) for choice in _choices().get(name, []))

    def _traces_itself(self, name: str) -> bool:
        """Whether the library makes spans without an instrumentor, and they reach this tracer."""
        library = LIBRARIES.get(name)
        return library is not None and is_global(self._tracer.provider) and library.traces_itself()

    def _installed(self, choices: Mapping[str, list[Candidate]]) -> list[str]:
        """Names of the installed LLM libraries, without those that are mostly used for something else."""
        here = {name for name, library in LIBRARIES.items() if is_installed(library.distribution)}
        others = {
            name
            for name, (first, *_) in choices.items()
            if name not in LIBRARIES and first.is_for_llms() and first.has_library()
        }
        missed = {name for name in here if name in choices or not LIBRARIES[name].general or self._traces_itself(name)}
        return sorted(others | missed)

    def _row(self, name: str, choices: list[Candidate]) -> tuple[str, str, str]:
        if name in self._on:
            return name, "on", self._on[name].by
        active = next((choice for choice in choices if _is_on(choice)), None)
        if active is not None:
            return name, "on", f"{_words(active)}, not by %hh instrument"
        if self._traces_itself(name):
            return name, "on", Family.OWN.title + _without_messages(name, choices)
        return name, "off", _words(choices[0]) if choices else f"%pip install {LIBRARIES[name].package}"

    def _switch_on(self, name: str, choices: list[Candidate]) -> str | None:
        """Switch on the best instrumentor of a library. Returns None on success, else a line that says what failed."""
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
            except Exception as error:  # boundary: an instrumentor may fail in any way, the next one is tried
                self._capture.switch_off(name)
                problem = problem or _failure(choice, error, itself=itself)
                continue
            self._on[name] = _On(instrumentor, _words(choice))
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
            given = kwargs.get("tracer_provider")
            if given is None or given is self._tracer.provider:
                return None
            _restore(instrumentor)
            self._on.pop(name, None)
            self._capture.switch_off(name)
            instrumentor.uninstrument()
            return original(**kwargs)

        try:
            instrumentor.instrument = instrument  # type: ignore[method-assign]  # On this object only.
        except AttributeError:
            logger.debug("%s keeps its own instrument()", name)


def _restore(instrumentor: Instrumentor) -> None:
    """Undo `_yield_to_user`: restore the `instrument` method of the object's class."""
    vars(instrumentor).pop("instrument", None)


def _choices() -> dict[str, list[Candidate]]:
    """The ways to trace each library, the preferred one first."""
    found = candidates()
    for name, entry in OWN_TRACING.items():
        if is_installed(LIBRARIES[name].distribution):
            own, others = Candidate(name, Family.OWN, "", entry), found.get(name, [])
            found[name] = [own, *others] if name in PREFERRED else [*others, own]
    return found


def _check(asked: Iterable[str], choices: Iterable[str]) -> None:
    known = sorted({*choices, *LIBRARIES})
    unknown = next((name for name in asked if name not in known), None)
    if unknown is not None:
        raise UsageError(f"%hh instrument: no library {unknown}. {did_you_mean(unknown, known)}")


def _is_on(choice: Candidate) -> bool:
    """Whether this instrumentor is on; one whose module nobody imported is off."""
    if choice.family is not Family.OWN and choice.entry.module not in sys.modules:
        return False
    try:
        return bool(choice.entry.load()().is_instrumented_by_opentelemetry)
    except Exception:  # boundary: somebody else's module
        logger.debug("%s cannot tell whether it is on", choice.name, exc_info=True)
        return False


def _words(choice: Candidate) -> str:
    return f"{choice.family.title} {choice.version}".strip()


def _without_messages(name: str, choices: list[Candidate]) -> str:
    """The end of a line that says how to get messages too; empty if the library's own spans have them."""
    if LIBRARIES[name].complete:
        return ""
    return f"; with messages: {f'%hh instrument {name}' if choices else f'%pip install {LIBRARIES[name].package}'}"


def _missing(name: str) -> str:
    """The line for a library without an installed instrumentor: it says what to install."""
    library = LIBRARIES.get(name)
    if library is None:
        return f"hh: {name} is not traced. %pip install {name}"
    if library.traces_itself():
        return f"hh: {name} is not traced: it gives its spans to OpenTelemetry's global provider, which is another one."
    return f"hh: {name} is not traced. %pip install {library.package or library.distribution}"


def _failure(choice: Candidate, error: Exception, *, itself: bool) -> str:
    """The line for an instrumentor that could not be switched on. A version conflict names the versions that work."""
    reason = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "DependencyConflictError":
        reason = _conflict(choice, getattr(error, "conflict", None)) or reason
    state = "traces itself, without messages" if itself else "is not traced"
    return f"hh: {choice.name} {state}: {reason}"


def _conflict(choice: Candidate, conflict: Any) -> str | None:
    """Describe a version conflict: which package is missing, too old or too new. None if the error has no details."""
    from packaging.requirements import Requirement  # The library that raised the error depends on it.

    required = getattr(conflict, "required", None)
    every = [required] if required else list(getattr(conflict, "required_any", None) or ())
    if not every:
        return None
    alternatives = [Requirement(str(one)) for one in every]
    wanted = next((one for one in alternatives if is_installed(one.name)), alternatives[0])
    install = f"%pip install '{wanted.name}{wanted.specifier}'"
    if not is_installed(wanted.name):
        return f"{wanted.name} is missing. {install}"
    found = importlib.metadata.version(wanted.name)
    takes = f"{choice.package or choice.name} {choice.version}, which takes {wanted.specifier}"
    if any(_is_exceeded(one, found) for one in wanted.specifier):
        newer = f"%pip install -U {choice.package}, or " if choice.package else ""
        return f"{wanted.name} {found} is too new for {takes}. {newer}{install}"
    return f"{wanted.name} {found} is too old for {takes}. {install}"


def _is_exceeded(bound: Any, found: str) -> bool:
    """Whether a version is above what one clause of a requirement allows."""
    from packaging.version import Version

    if bound.contains(found, prereleases=True) or bound.operator not in {"<", "<=", "~=", "=="}:
        return False
    return bool(Version(found) >= Version(bound.version.removesuffix(".*")))


# The hint for a cell that used an LLM library which nothing traces: else it looks as if nothing had happened.

_DEEPEST: Final = 3
"""The user's functions that call each other are followed so far."""

_MAGIC_BODY: Final = frozenset({"run_cell_magic"})


class UntracedHint:
    """Says once for each library that it is not traced.

    Args:
        is_traced: by the library's name.
        transform: IPython's cell text -> Python.
        names: the user's namespace.
    """

    def __init__(
        self, is_traced: Callable[[str], bool], transform: Callable[[str], str], names: Mapping[str, Any]
    ) -> None:
        self._is_traced, self._transform, self._names = is_traced, transform, names
        self._said: set[str] = set()

    def of(self, cell: str) -> str | None:
        """The line for a cell that made no spans, or None.

        Args:
            cell: its text.
        """
        loaded = {name for name, library in LIBRARIES.items() if library.modules[0] in sys.modules} - self._said
        if not loaded:
            return None
        for library in _used(_parsed(self._transform(cell)), self._names):
            if library.name in loaded and not self._is_traced(library.name) and is_installed(library.distribution):
                self._said.add(library.name)
                return f"hh: {library.name} is not traced. %hh instrument {library.name}"
        return None


def _parsed(code: str) -> list[ast.AST]:
    """The cell's code, and what stands below a magic in it."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return []
    trees: list[ast.AST] = [tree]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGIC_BODY:
            body = node.args[-1] if node.args else None
            if isinstance(body, ast.Constant) and isinstance(body.value, str):
                trees += _parsed(body.value)
    return trees


def _used(trees: Iterable[ast.AST], names: Mapping[str, Any]) -> Iterator[Library]:
    """The libraries whose objects are called, or handed to a call, in this code or in the user's functions it calls.

    An import is no use, nor is making a client: `openai.OpenAI()` sends nothing.
    """
    for tree in trees:
        for node in _run(tree):
            name, last = _root(node.func), _last(node.func)
            if name is not None and name in names:
                yield from _of_callee(names[name], last, names)
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Name) and (found := _of_object(names.get(argument.id))) is not None:
                    yield found


def _run(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls in code that runs at once: not those in the functions that it defines."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _of_callee(value: Any, last: str | None, names: Mapping[str, Any]) -> Iterator[Library]:
    if isinstance(value, ModuleType):
        found = library_of(value.__name__)
        if found is not None and last is not None and not last[:1].isupper():
            yield found
    elif isinstance(value, type):
        found = library_of(value.__module__ or "")
        if found is not None and last is not None:  # A method of what was made: `ChatOpenAI().invoke()`.
            yield found
    elif isinstance(value, FunctionType):
        yield from _of_function(value, names)
    elif (found := _of_object(value)) is not None:
        yield found


def _of_function(function: FunctionType, names: Mapping[str, Any]) -> Iterator[Library]:
    """The library of a function of one; of the user's own those of what it refers to."""
    found = library_of(function.__module__ or "")
    if found is not None:
        yield found
        return
    waiting, seen = [(function, 0)], {function}
    while waiting:
        own, depth = waiting.pop()
        if own.__globals__ is not names and own.__module__ != "__main__":
            continue
        for name in own.__code__.co_names:
            value = names.get(name)
            if isinstance(value, FunctionType) and value not in seen and depth < _DEEPEST:
                seen.add(value)
                waiting.append((value, depth + 1))
            elif isinstance(value, ModuleType):
                if (found := library_of(value.__name__)) is not None:
                    yield found
            elif (found := _of_object(value)) is not None:
                yield found


def _of_object(value: Any) -> Library | None:
    """The library whose class this object is of."""
    if value is None or isinstance(value, ModuleType | type | FunctionType):
        return None
    return library_of(type(value).__module__ or "")


def _root(node: ast.AST) -> str | None:
    """`client` in `client.chat.completions.create`, through calls and items."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _last(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else None
