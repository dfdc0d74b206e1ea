"""Records model requests to a file, and answers equal ones from it.

A run is one cell or one `with recording(...)`. In a run, the n-th of equal requests gets the n-th recorded answer.
Redacting and writing happen on a thread of the recorder.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe
from hh_jupyter.recordings import file as files
from hh_jupyter.recordings import matching
from hh_jupyter.recordings.exchange import Answer, Interceptor, Outcome, Request
from hh_jupyter.recordings.file import Entry, RecordingFile
from hh_jupyter.records import prices, replays
from hh_jupyter.records.record import CALL_KINDS
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.secret_rules import REDACTED
from hh_jupyter.settings import replay_in_force
from hh_jupyter.threads import start_thread

logger = logging.getLogger(__name__)

Mode = Literal["auto", "only", "record"]
MODES: Final = ("auto", "only", "record", "off")

_held: str | None = None


def hold_mode(mode: str) -> None:
    """Give every recording of this process this mode from now on, whatever the code, a cell or a setting asks for.

    Args:
        mode: one of `MODES`.
    """
    global _held
    _held = mode


def mode_in_force(asked: str) -> str:
    """Return the mode that is held, here or by the environment, else the one that was asked for."""
    return _held or replay_in_force(asked)


_REMEDY: Final = "run once with mode auto to record it"
_JSON: Final = {"content-type": "application/json", "x-should-retry": "false"}


@dataclass(slots=True)
class RunCounts:
    """What a run did.

    Attributes:
        replayed: requests that were answered from the file.
        sent: requests that were sent.
        missed: what differs from the nearest recorded request, for each one that mode `only` could not answer.
    """

    replayed: int = 0
    sent: int = 0
    missed: list[str] = field(default_factory=list)


class Recorder(Interceptor):
    """Records to one file, and answers from it.

    Args:
        path: of the file.
        mode: `auto` answers what is recorded and complete, and sends and records the rest; `only` sends nothing;
            `record` sends everything and records it anew.
        hosts: further hosts to record.
        ignore: fields of JSON bodies that do not matter when requests are compared, "metadata.run" for instance.
        redactor: removes secrets from what is written; by default with the built-in rules.

    Attributes:
        counts: of the current run, or of the last one.
        redactor: as above; may change.
    """

    order: ClassVar[int] = 0

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode = "auto",
        *,
        hosts: Iterable[str] = (),
        ignore: Iterable[str] = (),
        redactor: Redactor | RedactorWithFunction | None = None,
    ) -> None:
        self.path, self.mode = Path(path).expanduser(), mode
        self.hosts = frozenset(host.lower() for host in hosts)
        self._ignore = tuple(sorted(ignore))
        self.redactor = redactor
        self._lock = threading.RLock()  # A response may end in a destructor, which runs anywhere.
        self._file = RecordingFile(self.path)
        self._writer = _Writer(self._write)
        self._sequence = 0
        self._started: dict[Request, tuple[int, str | None]] = {}
        self.counts = RunCounts()
        self._by_digest: dict[str, list[Entry]] = {}
        self._by_redacted: dict[str, str] | None = None
        self._digests: dict[str, str] = {}
        self._targets: set[str] = set()
        self._seen: Counter[str] = Counter()
        self._new: list[tuple[int, Entry]] = []
        self._written: set[str] = set()
        _recorders.add(self)

    def after_fork_in_child(self) -> None:
        """Replace what threads of the parent may hold. The child may end without notice, so it writes at once."""
        self._lock, self._writer = threading.RLock(), _Writer(self._write, at_once=True)

    # A run

    def begin_run(self) -> None:
        """Count equal requests from the first one again; what the last run recorded can be answered from now on."""
        self.end_run()
        with self._lock:
            self._file.load()
            self.counts = RunCounts()
            self._by_digest, self._by_redacted, self._digests, self._targets = {}, None, {}, set()
            self._seen, self._written = Counter(), set()
            for entry in self._entries():
                self._index(entry)
        if self._by_digest:
            prices.load_in_background()  # What a replayed call saves is written on its span.

    def end_run(self) -> None:
        """Wait until everything is written, and put the file in order."""
        self._writer.drain()
        with self._lock:
            if self._new:
                self._file.rewrite(self._in_order())
                self._new = []

    def close(self) -> None:
        """End the run, and answer and record no further request."""
        self.closed = True
        self.end_run()

    @property
    def problem(self) -> str | None:
        """Why the file could not be read or written; None if it could."""
        return self._file.problem

    def unused(self) -> int:
        """The number of recorded answers that no request has got since the file was read."""
        with self._lock:
            return sum(not entry.used for entry in self._entries())

    def prune(self) -> int:
        """Remove the recorded answers that no request has got since the file was read. Returns their number."""
        self.end_run()
        with self._lock:
            before = self._file.entries
            kept = [entry for entry in before if isinstance(entry, str) or entry.used]
            if len(kept) < len(before):
                self._file.rewrite(kept)
            return len(before) - len(kept)

    def _entries(self) -> list[Entry]:
        return [entry for entry in self._file.entries if isinstance(entry, Entry)]

    def _index(self, entry: Entry) -> None:
        digest = self._digest_of(entry)
        self._by_digest.setdefault(digest, []).append(entry)
        self._digests[entry.raw] = digest
        self._targets.add(entry.target)

    def _digest_of(self, entry: Entry) -> str:
        """The digest of a recorded request without the fields that this recorder ignores.

        It was written without those that were ignored then. If they differ, it is computed from the recorded body,
        unless redaction has changed that.
        """
        if entry.ignored == self._ignore:
            return entry.digest
        request = entry.document()["request"]
        if "body" in request:
            arguments = entry.method, entry.target, request["body"]
            if matching.recorded_digest(*arguments, entry.ignored) == entry.digest:
                return matching.recorded_digest(*arguments, self._ignore)
        return entry.digest

    # Before a request

    def before(self, request: Request) -> Answer | None:
        """Answer the request from the file."""
        if self.mode == "only":
            try:
                return self._only(request)
            except Exception as error:  # boundary: nothing is sent in this mode, whatever goes wrong.
                logger.exception("hh_jupyter: the recording %s failed", self.path)
                return _not_recorded(f"the recording {self.path.name} could not answer: {type(error).__name__}")
        entry, digest = None, None
        if not request.readable:
            return None
        with self._lock:
            if self.mode == "auto":
                digest = self._find(request)
                if digest is not None:
                    found = [entry for entry in self._by_digest[digest] if entry.answerable]
                    number, self._seen[digest] = self._seen[digest], self._seen[digest] + 1
                    entry = found[number] if number < len(found) else None
            if entry is None:
                self._sequence += 1
                self.counts.sent += 1
                self._started[request] = self._sequence, digest
                return None
            self.counts.replayed += 1
        return self._replay(entry)

    def _only(self, request: Request) -> Answer:
        if not request.readable:
            start = f"{request.method} {self._redact(matching.target(request))} has a body that can be read only once"
            return self._not_recorded(start, "send it as bytes or as JSON")
        with self._lock:
            digest = self._find(request)
            found = self._by_digest[digest] if digest is not None else []
            if found:
                entry = found[min(self._seen[digest or ""], len(found) - 1)]
                self._seen[digest or ""] += 1
                self.counts.replayed += 1
            else:
                message = self._miss(request)
        return self._replay(entry) if found else self._not_recorded(message)

    def _not_recorded(self, message: str, remedy: str = _REMEDY) -> Answer:
        with self._lock:
            self.counts.missed.append(message)
        return _not_recorded(message, remedy)

    def _find(self, request: Request) -> str | None:
        """The digest of the recorded requests that equal this one; None if there are none."""
        if not self._by_digest:
            return None
        raw = matching.raw_digest(request)
        digest = self._digests.get(raw)
        if digest is None and matching.target(request) in self._targets:
            digest = matching.canonical_digest(request, self._ignore)
            if digest not in self._by_digest and REDACTED.encode() in request.body:
                digest = self._redacted_digest(request) or digest
            self._digests[raw] = digest
        return digest if digest in self._by_digest else None

    def _redacted_digest(self, request: Request) -> str | None:
        """The digest of the recorded request that equals this one once redacted.

        A request that holds a replayed answer, as the next turn of a chat does, holds it redacted.
        """
        if self._by_redacted is None:
            self._by_redacted = {}
            for entry in self._entries():
                recorded = entry.document()["request"]
                if "body" in recorded:
                    digest = matching.recorded_digest(entry.method, entry.target, recorded["body"], self._ignore)
                    self._by_redacted.setdefault(digest, self._digest_of(entry))
        body = files.request_body(request.body, "", self._redact)
        target = self._redact(matching.target(request))
        return self._by_redacted.get(matching.recorded_digest(request.method, target, body.get("body"), self._ignore))

    def _replay(self, entry: Entry) -> Answer:
        entry.used = True
        answer = entry.answer()
        if entry.status >= 400:
            # Clients wait before they try again; the recorded answer does not get better by it.
            answer = Answer(answer.status, {**answer.headers, "retry-after-ms": "1"}, answer.body, answer.error)
        _mark(answer, entry.ms)
        return answer

    def _miss(self, request: Request) -> str:
        """What was asked for, and what differs from the nearest recorded request."""
        target = self._redact(matching.target(request))
        start = f"{request.method} {target} is not recorded in {self.path.name}"
        same = [entry for entry in self._entries() if entry.target == target]
        if not same:
            recorded = ", ".join(sorted({entry.target for entry in self._entries()})[:3])
            return f"{start}, which has {f'only {recorded}' if recorded else 'no recorded request'}"
        body = files.request_body(request.body, request.headers.get("content-type", "").partition(";")[0], self._redact)
        candidates = ((str(number), entry.document()["request"]) for number, entry in enumerate(same))
        found = matching.nearest(_comparable(body), ((name, _comparable(one)) for name, one in candidates))
        if found is None or not found[1]:
            return f"{start}: the nearest recorded request differs in what is redacted"
        return f"{start}. Compared with the nearest recorded request: {'; '.join(found[1])}"

    # After a request

    def after(self, request: Request, outcome: Outcome) -> None:
        """Record the exchange."""
        with self._lock:
            sequence, digest = self._started.pop(request, (0, None))
            if sequence and outcome.answered:
                self.counts.sent -= 1
                return
        if sequence and outcome.status is not None and outcome.status >= 200:
            self._writer.put((sequence, digest, request, outcome))

    def _write(self, item: tuple[int, str | None, Request, Outcome]) -> None:
        sequence, digest, request, outcome = item
        if digest is None:
            digest = matching.canonical_digest(request, self._ignore)
        with self._lock:
            first = digest not in self._written
            self._written.add(digest)
        entry = self._entry(request, outcome, digest, replaces=first and self.mode == "record")
        if self._file.append(entry):
            with self._lock:
                self._new.append((sequence, entry))

    def _entry(self, request: Request, outcome: Outcome, digest: str, *, replaces: bool) -> Entry:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = outcome.body
        recorded = files.decode_body(body, outcome.content_type, self._redact)
        complete = is_complete(recorded, ended=outcome.ended)
        response: dict[str, Any] = {"status": outcome.status}
        kept = {name: value for name in files.KEPT_HEADERS if (value := outcome.headers.get(name))}
        response["headers"] = self._redact(kept)
        response.update(recorded)
        if not complete:
            response["complete"] = False
        if outcome.error is not None:
            response["error"] = [type(outcome.error).__name__, self._redact(str(outcome.error))]
        response["ms"] = round(outcome.duration_ns / 1e6)
        match: dict[str, Any] = {"digest": digest, "raw": matching.raw_digest(request)}
        if self._ignore:
            match["ignored"] = list(self._ignore)
        document: dict[str, Any] = {
            "request": {
                "method": request.method,
                "target": self._redact(matching.target(request)),
                **files.request_body(request.body, content_type, self._redact),
            },
            "response": response,
            "match": match,
        }
        if replaces:
            document["replaces"] = True
        entry = files.entry_of(files.dump_line(document))
        entry.used = True
        return entry

    def _redact(self, value: Any) -> Any:
        if self.redactor is None:
            self.redactor = Redactor()
        return self.redactor.document(value)

    def _in_order(self) -> list[Entry | str]:
        """The lines of the file with those of this run in the order in which their requests began.

        They take the place of earlier ones of equal requests that this run has replaced: in mode `record` all, else
        those that cannot answer.
        """
        new: dict[str, list[Entry]] = defaultdict(list)
        for _, entry in sorted(self._new, key=lambda pair: pair[0]):
            if entry.replaces:
                entry = _without_mark(entry)  # noqa: PLW2901
            new[entry.digest].append(entry)
        mine = {entry for _, entry in self._new}
        lines: list[Entry | str] = []
        placed: set[str] = set()
        for line in self._file.entries:
            if isinstance(line, Entry):
                if line in mine:
                    continue
                if line.digest in new and (self.mode == "record" or not line.answerable):
                    if line.digest not in placed:
                        placed.add(line.digest)
                        lines.extend(new[line.digest])
                    continue
            lines.append(line)
        return [*lines, *(entry for digest, group in new.items() if digest not in placed for entry in group)]


def _without_mark(entry: Entry) -> Entry:
    document = entry.document()
    del document["replaces"]
    kept = files.entry_of(files.dump_line(document))
    kept.used = entry.used
    return kept


def _comparable(request: Mapping[str, Any]) -> Any:
    return request["body"] if "body" in request else {key: value for key, value in request.items() if key == "text"}


# Complete answers

_END_TYPES: Final = frozenset(
    {"message_stop", "response.completed", "response.incomplete", "message-end", "stream-end"}
)
"""Types of the event with which an API ends a stream."""

_BEGIN_TYPES: Final = frozenset({"message_start", "response.created", "message-start", "stream-start"})
"""Types of the first event of a stream that ends with one of `_END_TYPES`."""


def is_complete(recorded: Mapping[str, Any], *, ended: bool) -> bool:
    """Whether a response has everything that the API meant to send: a stream by the API's own end mark.

    Args:
        recorded: the body as fields of a line.
        ended: the body was read to its end.
    """
    if "events" not in recorded and "lines" not in recorded:
        body = recorded.get("body")
        return ended and not (isinstance(body, dict) and body.get("error") and "choices" not in body)
    texts = [event for event in recorded.get("events", ()) if event.get("text") == "[DONE]"]
    data = [value for event in recorded.get("events", ()) if isinstance(value := event.get("data"), dict)]
    data += [value for line in recorded.get("lines", ()) if isinstance(value := line.get("json"), dict)]
    types = {kind for value in data if isinstance(kind := value.get("type") or value.get("event_type"), str)}
    if types & {"error", "response.failed"} or any(value.get("error") for value in data if "type" not in value):
        return False
    if texts or types & _END_TYPES or any(value.get("done") is True for value in data):
        return True
    if not ended or types & _BEGIN_TYPES:
        return False
    choices = [choice for value in data for choice in _dicts(value.get("choices"))]
    candidates = [candidate for value in data for candidate in _dicts(value.get("candidates"))]
    if choices or candidates:
        return any(one.get("finish_reason") or one.get("finishReason") for one in (*choices, *candidates))
    return True


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


# Spans of replayed calls


def _mark(answer: Answer, ms: int) -> None:
    """Let the span of a replayed call say so: the current span if it is a model's, and any with its response id."""
    if (response_id := _response_id(answer)) is not None:
        replays.note(response_id, time.time_ns(), ms)
    span = trace.get_current_span()
    if not span.is_recording() or not isinstance(span, ReadableSpan):
        return
    scope = span.instrumentation_scope
    kind = describe(span.name, span.attributes or {}, (), span.start_time or 0, scope.name if scope else "").kind
    if kind in CALL_KINDS:
        span.set_attributes({keys.REPLAYED: True, keys.REPLAYED_MS: ms})


def _response_id(answer: Answer) -> str | None:
    """The provider's id of a response, which instrumentors write on its span."""
    for text in _documents(answer.body):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(document, dict):
            continue
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict):
                found = holder.get("id") or holder.get("responseId") or holder.get("response_id")
                if isinstance(found, str):
                    return found
    return None


def _documents(body: bytes) -> list[bytes]:
    """The JSON of a body: all of it, or the data of its first events."""
    if not body.startswith((b"data:", b"event:", b":")):
        return [body]
    lines = (line[5:].strip() for line in body[:20_000].split(b"\n") if line.startswith(b"data:"))
    return list(lines)[:3]


def _not_recorded(message: str, remedy: str = _REMEDY) -> Answer:
    """An error in the shapes of all APIs; a client raises it at once, with its message."""
    text = f"{message}; {remedy}"
    error = {"type": "not_recorded", "message": text, "code": 404, "status": "NOT_FOUND"}
    body = json.dumps({"type": "error", "error": error, "message": text, "detail": text}, ensure_ascii=False)
    return Answer(404, _JSON, body.encode("utf-8", "replace"))


# The thread that writes

_IDLE_SECONDS: Final = 1.0
"""How long the thread waits for a further item before it ends."""


class _Writer:
    """Handles items in order on a thread, which ends when there are none for a while.

    Args:
        handle: called with each item.
        at_once: call it on the thread of the caller.
    """

    def __init__(self, handle: Callable[[Any], None], *, at_once: bool = False) -> None:
        self._handle, self._at_once = handle, at_once
        self._lock = threading.RLock()
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, item: Any) -> None:
        """Hand an item over."""
        if sys.is_finalizing():  # The garbage of the last moment; no thread starts any more.
            return
        with self._lock:
            if self._thread is None and not self._at_once:
                self._thread = start_thread(self._run, "hh_jupyter-recording")
            if self._thread is not None:
                self._items.put(item)
                return
        self._handle_one(item)

    def drain(self) -> None:
        """Wait until every item is handled."""
        handled = threading.Event()
        with self._lock:
            if self._thread is None or sys.is_finalizing():  # Then its thread has stopped.
                return
            self._items.put(handled)
        handled.wait()

    def _run(self) -> None:
        while True:
            try:
                item = self._items.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._items.empty():
                        self._thread = None
                        return
                continue
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._handle_one(item)

    def _handle_one(self, item: Any) -> None:
        try:
            self._handle(item)
        except Exception:  # boundary: an exchange that cannot be written must not end the thread.
            logger.exception("hh_jupyter: an answer could not be recorded")


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in tuple(_recorders):
        recorder.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
