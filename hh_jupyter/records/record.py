"""A span as plain data: the input of displays, totals and queries."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, readable_name
from hh_jupyter.conventions.facts import EventLike, SpanFacts

Status = Literal["ok", "error", "cancelled", "running"]
"""Cancelled: ended by a cancellation, Ctrl-C, `sys.exit()` or another exception that is no `Exception`."""

CALL_KINDS: Final = ("llm", "embedding")
"""Kinds of spans that describe a request to a model."""

_STATUS_NAMES: Final = {
    "RateLimitError": 429, "TooManyRequestsError": 429, "TooManyRequestsException": 429, "ThrottlingException": 429,
    "ResourceExhausted": 429, "RESOURCE_EXHAUSTED": 429, "rate_limit_error": 429, "overloaded_error": 529,
    # Errors of Bedrock, which never include the status.
    "ValidationException": 400, "ServiceQuotaExceededException": 400, "AccessDeniedException": 403,
    "ResourceNotFoundException": 404, "ModelTimeoutException": 408, "ModelErrorException": 424,
    "ModelNotReadyException": 429, "InternalServerException": 500, "ServiceUnavailableException": 503,
}  # fmt: skip
"""Error type of a model API -> HTTP status, for errors that may not include it."""


@dataclass(frozen=True, slots=True)
class SpanError:
    """An error in one line, redacted.

    Attributes:
        type: class name of the exception, without its module. Example: "HTTPError".
        message: first line of the message, at most 300 characters.
        location: innermost line of user code, "payments.py:41"; None if no stack was recorded.
        http_status: 400 and above, if the error includes one.
        frames: "file:line" of each frame of its traceback, innermost first, without those of this package and of the
            context managers around the code.
        causes: types and messages of the errors that it was raised from (`raise ... from`), or that it is a group of.
    """

    type: str
    message: str
    location: str | None = None
    http_status: int | None = None
    frames: tuple[str, ...] = field(default=(), compare=False, repr=False)
    causes: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A finished or running span as plain data.

    Attributes:
        parent_id: span id of the nearest kept ancestor; None for a root.
        name: to display: the span's name, unless that is a template or the same for every tool or agent.
        end_ns: Unix nanoseconds; None while the span runs.
        cell: id of the cell run in which the span started; None outside cells.
        session_id: session of the span; None without one.
        redacted: number of redacted values.
        dropped: number of attributes that span limits removed.
        event_id: id of the span's event at the backend, if the user's code chose it.
    """

    trace_id: int
    span_id: int
    parent_id: int | None
    name: str
    start_ns: int
    end_ns: int | None
    status: Status
    facts: SpanFacts
    scope: str = ""
    error: SpanError | None = None
    session_id: str | None = None
    cell: str | None = None
    redacted: int = 0
    dropped: int = 0
    event_id: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the span ended with an error or was cancelled."""
        return self.status in ("error", "cancelled")

    @property
    def http_status(self) -> int | None:
        """HTTP status of a failed span, 400 and above, from its attributes or from its error's message or type."""
        if self.status != "error":
            return None
        status, error = self.facts.http_status, self.error
        if status is None and error is not None:
            status = error.http_status
            if status is None and self.facts.kind in CALL_KINDS:
                status = _STATUS_NAMES.get(error.type)
        return status

    @property
    def duration_ns(self) -> int:
        """Nanoseconds from start to end; 0 while it runs."""
        return 0 if self.end_ns is None else max(0, self.end_ns - self.start_ns)


class ContentSource(Protocol):
    """Holds the content of spans that our tracer did not record.

    Attributes:
        file: path of the file that they are from; None for spans from memory.
    """

    file: str | None

    def details(self, record: SpanRecord) -> SpanDetails | None:
        """Return the details of a record; None if this source does not hold the span."""

    def bodies(self, records: Iterable[SpanRecord]) -> Iterator[bytes]:
        """Yield encoded requests with the spans of these records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecord(SpanRecord):
    """A record with a reference to its content, so that any list can hold it.

    Attributes:
        source: the object that holds the content.
    """

    source: ContentSource = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event of a finalized span; `timestamp` is in Unix nanoseconds."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpanDetails:
    """Everything of a finalized span that its record omits, as exported."""

    attributes: Mapping[str, Any]
    events: tuple[RecordedEvent, ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    status_message: str | None = None


# The error of a failed span in one line: type, message, and location in user code.

MESSAGE_LENGTH: Final = 300  # characters

_EVENT: Final = "exception"
_TYPE: Final = "exception.type"
_MESSAGE: Final = "exception.message"
_STACK: Final = "exception.stacktrace"
_OTEL_TYPE: Final = "error.type"

# Most reliable first: a number labelled as status, one at the start of the text, one in a provider's error object.
_STATUS_TEXTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:error|status)[ _-]?code\W{0,4}([45]\d\d)\b",
        r"\b(?:HTTP(?:/\d(?:\.\d)?)?(?: error)?|status)\W{0,3}([45]\d\d)\b",
        r"^\W*([45]\d\d)(?-i:$|[ :,-]+[A-Z{])",
        r"\b(?:client|server) error\W{0,3}([45]\d\d)\b",
        r"""["']code["']: ([45]\d\d)\b""",
        r"\(([45]\d\d)\)",
    )
)
_SEARCHED_LENGTH: Final = 20_000

_FRAME = re.compile(r'^[ |+]*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)
_AT_YIELD = re.compile(r'[^\n]*\n(?![ |+]*File ")[^\n]*\byield\b')  # The source line of a frame.
# "RateLimitError: too many", as OpenInference and HoneyHive write a status message; not a sentence with a colon.
_TYPE_AND_MESSAGE = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?", re.DOTALL)
_LIBRARY_PARTS: Final = frozenset({"site-packages", "dist-packages"})
_STDLIB_PART = re.compile(r"/lib(?:64)?/python3\.\d+/")
_STDLIB: Final = sysconfig.get_paths()["stdlib"]
_OWN_PACKAGE: Final = str(Path(__file__).resolve().parents[1])
_KERNEL_PART = re.compile(r"[\\/]ipykernel_\d+[\\/]|^<ipython-input-")
# How Python's traceback joins the errors of a chain; the members of a group follow a line of "+-+----".
_JOINED = re.compile(
    r"^(?:(The above exception was the direct cause of the following exception:)"
    r"|During handling of the above exception, another exception occurred:)[ \t]*$",
    re.MULTILINE,
)
_GROUP = re.compile(r"^[ |]*\+-\+-", re.MULTILINE)
_RAISED = re.compile(r"^(?: *\| )?(?P<type>[A-Za-z_][\w.<>]*)(?:: (?P<message>.*))?$", re.MULTILINE)
_MAX_CAUSES: Final = 100

_CANCELLATIONS: Final = frozenset({"CancelledError", "Cancelled", "KeyboardInterrupt", "SystemExit"})
"""Error types that mean a cancellation, also in spans of other tracers."""


def span_error(
    attributes: Mapping[str, Any], events: Sequence[EventLike], status_message: str | None
) -> SpanError | None:
    """The error of a span with status ERROR; None if the span does not describe it.

    The message comes from the last exception event, else the status, else `error.type`, else `honeyhive_error`. Call
    this for failed spans only: a span that handled an exception may have an exception event too.

    Args:
        attributes: of the span, redacted.
        events: of the span, redacted.
        status_message: description of the status, redacted.
    """
    raised = next((event.attributes or {} for event in reversed(events) if event.name == _EVENT), None)
    if raised is not None and (raised.get(_TYPE) or raised.get(_MESSAGE)):
        stack = str(raised.get(_STACK) or "")
        error = _error(raised.get(_TYPE), raised.get(_MESSAGE), user_code_location(stack))
        frames, causes = _frames_and_causes(stack)
        return replace(error, frames=frames, causes=causes) if frames or causes else error
    kind = attributes.get(_OTEL_TYPE) or attributes.get(keys.ERROR_TYPE)
    message = status_message or attributes.get(keys.ERROR)
    if kind:
        parts = _TYPE_AND_MESSAGE.fullmatch(message) if isinstance(message, str) else None
        repeated = parts is not None and _class_name(parts["type"]) == _class_name(str(kind))
        return _error(kind, (parts["message"] or "") if parts and repeated else message, None)
    if not message:
        return None
    parts = _TYPE_AND_MESSAGE.fullmatch(str(message))
    if parts and (parts["message"] or parts["type"].endswith(("Error", "Exception", "Interrupt", "Exit"))):
        return _error(parts["type"], parts["message"], None)
    return _error("Error", message, None)


def failed_status(error: SpanError | None, attributes: Mapping[str, Any]) -> Status:
    """The status of an ended span whose status on the wire is ERROR."""
    cancelled = attributes.get(keys.CANCELLED) or (error is not None and error.type in _CANCELLATIONS)
    return "cancelled" if cancelled else "error"


def user_code_location(stacktrace: str) -> str | None:
    """The innermost line of user code as "file.py:41", or "cell:3" in a notebook cell; None if there is none.

    Frames of installed packages, the standard library and this package are skipped. In a chain of errors, the last one
    with user code counts.
    """
    for frame in reversed(list(_FRAME.finditer(stacktrace))):
        file = frame["file"]
        if _KERNEL_PART.search(file):
            return f"cell:{frame['line']}"
        if _is_user_code(file):
            return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{frame['line']}"
    return None


def _frames_and_causes(stacktrace: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The frames of an error, innermost first, and the errors that it was raised from or is a group of.

    An error that was merely raised while another one was handled was not caused by it. The outermost frames are left
    out if they wait at a `yield`: a `with` block, such as OpenTelemetry's `start_as_current_span`, passes the error to
    the generator of its context manager, and the caller of the block does not see these frames.
    """
    *chain, last = _JOINED.split(stacktrace)  # Text, connector, text, ...; the connector is None after "During".
    own, _, members = last.partition(group[0]) if (group := _GROUP.search(last)) else (last, "", "")
    texts = [members]
    while chain and chain.pop():
        texts.append(chain.pop())
    frames = [frame for frame in _FRAME.finditer(own) if not frame["file"].startswith(_OWN_PACKAGE)]
    while len(frames) > 1 and _AT_YIELD.match(own, frames[0].end()):
        del frames[0]
    found = Counter(
        (cause["type"], _first_line(cause["message"])) for text in texts for cause in _RAISED.finditer(text)
    )
    causes: Counter[tuple[str, str]] = Counter()
    for (kind, message), number in found.items():  # A library may raise its ConnectError from another one's.
        causes |= Counter({(_class_name(kind), message): number})
    return (
        tuple(f"{frame['file']}:{frame['line']}" for frame in reversed(frames)),
        tuple(islice(causes.elements(), _MAX_CAUSES)),
    )


@lru_cache(maxsize=1024)
def _is_user_code(file: str) -> bool:
    path = file.replace("\\", "/")
    return not (
        file.startswith(("<", _STDLIB, _OWN_PACKAGE))
        or not _LIBRARY_PARTS.isdisjoint(path.split("/"))
        or _STDLIB_PART.search(path)
    )


def _error(kind: Any, message: Any, location: str | None) -> SpanError:
    first = _first_line(message)
    name = _class_name(str(kind or "Error"))
    if name.isdecimal():  # OpenTelemetry allows an HTTP status as `error.type`; the message may repeat it.
        name, first = f"HTTP {name}", first.removeprefix(name).lstrip(" :-")
    return SpanError(type=name, message=first, location=location, http_status=_http_status(name, str(message or "")))


def _first_line(message: Any) -> str:
    lines = str(message or "").strip().splitlines()
    first = lines[0].strip() if lines else ""
    return first if len(first) <= MESSAGE_LENGTH else first[: MESSAGE_LENGTH - 1] + "…"


def _http_status(kind: str, message: str) -> int | None:
    """The HTTP status in an error's type or in any line of its message."""
    texts = (kind, message[:_SEARCHED_LENGTH])
    found = next((match for text in texts for pattern in _STATUS_TEXTS if (match := pattern.search(text))), None)
    return int(found[1]) if found else None


def _class_name(kind: str) -> str:
    # Some instrumentors write "<class 'openai.RateLimitError'>".
    return kind.rpartition(".")[2].removesuffix("'>") or kind


# Records of spans that did not pass through the exporter.

_ERROR = "ERROR"


def record_of(span: ReadableSpan, *, cell: str | None = None) -> SpanRecord:
    """The record of an OpenTelemetry span, neither redacted nor limited.

    Args:
        span: finished or running.
        cell: id of the cell run it belongs to.

    Raises:
        ValueError: the span has no context or no start time, so it was not recorded.
    """
    context, start = span.get_span_context(), span.start_time
    if context is None or start is None:
        raise ValueError(f"span {span.name!r} has no ids or no start time")
    attributes = dict(span.attributes or {})
    failed = span.status.status_code.name == _ERROR
    error = span_error(attributes, span.events, span.status.description) if failed else None
    status: Status = "running" if span.end_time is None else failed_status(error, attributes) if failed else "ok"
    session_id = attributes.get(keys.SESSION_ID)
    scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
    return SpanRecord(
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=span.parent.span_id if span.parent else None,
        name=readable_name(span.name, attributes),
        start_ns=start,
        end_ns=span.end_time,
        status=status,
        facts=describe(span.name, attributes, span.events, start, scope),
        scope=scope,
        error=error,
        session_id=session_id if isinstance(session_id, str) else None,
        cell=cell,
        dropped=span.dropped_attributes,
        event_id=event_id_of(attributes),
    )


def event_id_of(attributes: Mapping[str, Any]) -> str | None:
    """The id that the user's code chose for the event of a span with these attributes."""
    found = attributes.get(keys.EVENT_ID)
    return found if isinstance(found, str) else None
