"""`Run again` in the interactive view: a model call that the user has changed is made again, by the user's own client.

Each such call is a variant. The code is that of `%hh edit`, run on the kernel's main thread like a cell. So clients of
any kind work, async ones on their event loop, and an interrupt ends the call. Its spans belong to the session of the
original; their run has a key of its own, so that they do not change the run that they are compared with.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextvars
import inspect
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import Message, Usage
from hh_jupyter.conventions.messages import response_messages
from hh_jupyter.display import format as fmt
from hh_jupyter.display.call_code import RecordedRequest, has_media_label, recorded_request
from hh_jupyter.display.content import answer_messages, plain
from hh_jupyter.display.delta import cost_change, time_change, time_changed
from hh_jupyter.display.diff_columns import encode_pieces
from hh_jupyter.display.format import clean, minus, span_name
from hh_jupyter.display.snippet import MAX_CHARACTERS
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.model import Session
from hh_jupyter.notebook.clients import Client, find_client
from hh_jupyter.notebook.frontend import PAUSE_FACTOR
from hh_jupyter.notebook.guard import note_failure
from hh_jupyter.notebook.parser import quoted
from hh_jupyter.notebook.sessions import NotebookSessions
from hh_jupyter.records import prices
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.selection import variant_key
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.redaction import Redactor
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.context import SessionScope, with_cell
from hh_jupyter.tracing.spans import span_attributes
from hh_jupyter.values import plain as as_data
from hh_jupyter.values import text_of, valid_utf8

MAX_CALLS: Final = 100
"""Calls whose variants are remembered."""

MAX_MODELS: Final = 50
ERROR_LENGTH: Final = 2_000
SHORT_SPAN_ID: Final = 8
STEP_NS: Final = 250_000_000
"""Between two steps in which a streamed answer appears."""

_LAST_WORD: Final = re.compile(r"[!-~]+\Z")

BUSY: Final = "The kernel is busy. Run this when the cell has ended, or interrupt the cell."

STOPPED: Final = "Stopped."

Span = tuple[SpanRecord, SpanDetails]
BeginReplay = Callable[[], Any]
"""Returns what has an `end()`; None if there is no recording."""

Push = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True, eq=False)
class _Variant:
    """A call that is made again.

    Attributes:
        number: among the variants of the same call, from 1.
        key: key of its run; empty if the original was made outside of cells.
        original: the original call.
        arguments: what the user made of its arguments.
        begin_replay: lets the recording of the original's cell hold.
        push: sends the variant to the page.
        task: runs it.
        trace_id: of its spans; 0 until it starts.
        in_call: the user's client is running.
        stopped: the user has stopped it.
        record: its model span; None if it has none.
        totals: of its spans.
        answer: its messages; while it is streamed, what has arrived.
        arrived: what has arrived; None if nothing is streamed.
        pieces: the answer beside the original one, for `words.js`; empty if they are not comparable texts.
        problem: why there is no answer.
    """

    number: int
    key: str
    original: Span
    arguments: Mapping[str, Any]
    begin_replay: BeginReplay
    push: Push
    task: asyncio.Task[None] | None = None
    trace_id: int = 0
    in_call: bool = False
    stopped: bool = False
    record: SpanRecord | None = None
    totals: Totals = field(default_factory=Totals)
    answer: Sequence[Mapping[str, Any]] = ()
    arrived: _Arrived | None = None
    pieces: Sequence[Any] = ()
    problem: str = ""


class _Arrived:
    """What has arrived of a streamed answer. It is the `print` of the code of a variant, which prints each chunk.

    Args:
        read: returns the text in a chunk.
        show: called with this a few times a second.

    Attributes:
        text: the text so far.
        first_ns: nanoseconds until it began.
    """

    def __init__(self, read: Callable[[Any], str], show: Callable[[_Arrived], None]) -> None:
        self.text = ""
        self.first_ns = 0
        self._read, self._show = read, show
        self._began_ns = time.monotonic_ns()
        self._next_ns = 0

    def __call__(self, chunk: Any) -> None:
        """Add a chunk."""
        try:
            self._add(self._read(chunk))
        except Exception as error:  # boundary: the answer is read from its span as well
            note_failure("Again", error)

    def _add(self, text: str) -> None:
        if not text:
            return
        now, began_ns = time.monotonic_ns(), time.thread_time_ns()
        self.text += text
        self.first_ns = self.first_ns or now - self._began_ns
        if now >= self._next_ns:
            self._show(self)
            self._next_ns = now + max(STEP_NS, (time.thread_time_ns() - began_ns) * PAUSE_FACTOR)


class Again:
    """Answers the page's messages about calls that are made again, and runs them.

    Args:
        shell: the InteractiveShell.
        sessions: sessions of the notebook, and its tracer.
        log: records of this kernel.
        busy: returns whether a cell runs.
        begin_replay: lets the recording for all cells hold in the current context.
    """

    def __init__(
        self,
        shell: Any,
        sessions: NotebookSessions,
        log: SpanLog,
        busy: Callable[[], bool],
        begin_replay: BeginReplay,
    ) -> None:
        self._shell, self._sessions, self._tracer, self._log = shell, sessions, sessions.tracer, log
        self._busy, self._begin_replay = busy, begin_replay
        self._variants: dict[int, list[_Variant]] = {}
        self._of_run: dict[str, int] = {}
        self._running: _Variant | None = None
        self._lock = threading.Lock()

    def answer(
        self,
        message: Mapping[str, Any],
        span: Span,
        begin_replay: BeginReplay | None,
        push: Push,
    ) -> Any:
        """Answer one message of the page, as `display/hub.py` lists them, with JSON-safe data. Any thread.

        Args:
            message: has an `action`: open, estimate, code, run or stop.
            span: the original model call.
            begin_replay: lets the recording of its cell hold in the current context; None if it had none.
            push: sends a variant to the page.

        Raises:
            KeyError, ValueError: the message is not complete.
        """
        action = message["action"]
        if action == "stop":
            return self._stop()
        request = recorded_request(*span) if span[0].facts.kind == "llm" else None
        if request is None:
            return None
        if action == "open":
            return self._open(span, request)
        arguments = {str(name): value for name, value in message["arguments"].items() if value is not None}
        if action == "estimate":
            return self._estimate(span, request, arguments)
        if action == "code":
            return request.with_arguments(arguments).code(self._names())
        if action == "run":
            return self._start(span, request.with_arguments(arguments), begin_replay or self._begin_replay, push)
        raise ValueError(f"unknown action {action!r}")

    # What the page shows before anything is sent

    def _open(self, span: Span, request: RecordedRequest) -> dict[str, Any]:
        """Return the request for editing, the original answer, and the variants so far."""
        record, details = span
        arguments, client = _sendable(request.arguments), self._client(span[1], request)
        models = {one.facts.model_requested or one.facts.model for one in self._log.records() if _is_call(one)}
        totals = summarize([record])
        return {
            "name": span_name(record.name),
            "arguments": arguments,
            "messages_in": request.messages_in,
            "system_in": request.system_in,
            "parameters": sorted(request.parameters),
            "models": sorted(filter(None, models))[:MAX_MODELS],
            "remarks": list(request.remarks),
            "problem": self._problem(record, request, client, too_long=arguments is None),
            "client": client.text if client is not None else "",
            "estimate": self._estimate(span, request, arguments or {}),
            "original": {"facts": _facts(record, totals), "answer": list(answer_messages(details))},
            "variants": [self._shown(one) for one in self._variants.get(record.span_id, ()) if one.task is not None],
        }

    def _problem(
        self, record: SpanRecord, request: RecordedRequest, client: Client | None, *, too_long: bool
    ) -> dict[str, str] | None:
        """Return why the call cannot be made again from here, and the command that works; None if it can be."""
        if self._log.find(record.trace_id, record.span_id) is None:
            return {"title": "This call was not made in this kernel.", "text": "", "command": ""}
        command = f"%hh edit {self._edit_word(record)}"
        if too_long:
            return {"title": "The request is too long to edit it here.", "text": "As code:", "command": command}
        if client is None:
            title = f"This kernel has no {request.package} client any more."
            return {"title": title, "text": "As code the call can still be made:", "command": command}
        return None

    def _edit_word(self, record: SpanRecord) -> str:
        """Return what `%hh edit` understands as this span."""
        name = span_name(record.name)
        last = next((one for one in reversed(self._log.records()) if name in (one.name, span_name(one.name))), None)
        return quoted(name) if last is record else f"{record.span_id:016x}"[:SHORT_SPAN_ID]

    def _estimate(self, span: Span, request: RecordedRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the call probably costs, in words, and how much of the session's limit is spent.

        The prompt has the tokens of the original, and those of the characters by which it differs; the answer is
        expected to be as long as the original one.
        """
        from hh_jupyter.recordings.costs import USUAL_ANSWER, model_request

        prices.load()
        record, facts = span[0], span[0].facts
        old, new = (
            model_request("POST", "/chat/completions", json.dumps(one, default=text_of).encode())
            for one in (dict(request.arguments), {"model": "-", **arguments})
        )
        usage = facts.usage or Usage()
        prompt = new.prompt if new else 0
        if old is not None and usage.prompt is not None:
            prompt = max(1, usage.prompt + prompt - old.prompt)
        most = int(new.most) if new is not None and new.most < float("inf") else None
        usual = min(usage.completion or USUAL_ANSWER, most or USUAL_ANSWER * 1_000)
        model = str(arguments.get("model") or facts.model_requested or facts.model or "")

        def price(completion: int) -> float | None:
            same = model in (facts.model_requested, facts.model)
            named = facts if same else replace(facts, model=model, model_requested=model)
            return prices.estimate(replace(named, usage=Usage(prompt, completion)))

        cost, highest = price(usual), price(most) if most is not None else None
        length = f"about {usual:,} out" if most is None else f"up to {most:,} out"
        size = f"{fmt.count(prompt, 'token')} in, {length}."
        if cost is None:
            text = f"No price is known for {clean(model, fmt.NAME_LENGTH) or 'this model'}: {size}"
        else:
            text = f"At most {fmt.usd(highest)}: {size}" if highest is not None else size[:1].upper() + size[1:]
        return {
            "cost": fmt.usd(cost, estimated=True) if cost is not None else None,
            "text": text,
            **self._limit(record),
        }

    def _limit(self, record: SpanRecord) -> dict[str, Any]:
        """Return how much of the session's limit is spent, and the line that raises a limit that is reached."""
        budget = self._tracer.sessions.budget(record.session_id)
        if budget is None:
            return {"spent": "", "raise": ""}
        from hh_jupyter.recordings.limit import line_to_raise, share, used

        reached = next((one for one in budget.chain() if share(one) >= 1), None)
        return {"spent": f"{used(reached or budget)} spent.", "raise": line_to_raise(reached) if reached else ""}

    def _names(self) -> dict[str, Any]:
        """Return the user's variables."""
        hidden = getattr(self._shell, "user_ns_hidden", {})
        return {name: value for name, value in list(self._shell.user_ns.items()) if name not in hidden}

    def _client(self, details: SpanDetails, request: RecordedRequest) -> Client | None:
        return find_client(request, details.attributes.get("server.address"), self._names())

    # One variant after the other

    def _start(
        self,
        span: Span,
        request: RecordedRequest,
        begin_replay: BeginReplay,
        push: Push,
    ) -> dict[str, Any]:
        """Start a variant, which the page gets as it arrives; return its number, or why it is not started."""
        record = span[0]
        arguments = _sendable(request.arguments)
        client = self._client(span[1], request)
        raise_with = self._limit(record)["raise"]
        if arguments is None:
            return {"problem": f"The request is too long: more than {MAX_CHARACTERS:,} characters."}
        if has_media_label(json.dumps(arguments)):
            return {"problem": "An image or a file of this request was not kept: brackets hold its type and size."}
        if client is None:
            return {"problem": f"This kernel has no {request.package} client any more."}
        if raise_with:
            return {"problem": f"The limit of the session is reached. To raise it: {raise_with}"}
        loop = getattr(getattr(self._shell.kernel, "io_loop", None), "asyncio_loop", None)
        if loop is None:
            return {"problem": "This kernel cannot make calls from the page. Use Copy as Python."}
        with self._lock:
            if self._running is not None or self._busy():
                return {"problem": BUSY if self._running is None else "A variant is running. Wait for it, or stop it."}
            run = record.cell or ""
            self._of_run[run] = self._of_run.get(run, 0) + 1
            known = self._variants.setdefault(record.span_id, [])
            evict_oldest(self._variants, MAX_CALLS)
            key = variant_key(run, self._of_run[run]) if run else ""
            number = len(known) + 1
            variant = _Variant(number, key, span, arguments, begin_replay, push)
            known.append(variant)
            self._running = variant
        code, names = self._code(request, client, variant)

        def start() -> None:
            variant.task = loop.create_task(self._run(variant, code, names), context=contextvars.Context())

        loop.call_soon_threadsafe(start, context=contextvars.Context())
        return {"number": variant.number}

    def _code(self, request: RecordedRequest, client: Client, variant: _Variant) -> tuple[Any, dict[str, Any]]:
        """Return the compiled code of a variant, and the names in it."""
        name = client.name
        source = request.code({name: client.client}, whole=True)
        is_expression = not source.rpartition("\n    print(chunk)")[1]
        code = compile(
            source,
            f"<{variant.number}. variant>",
            "eval" if is_expression else "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        # The chunks of a stream go to the page: printed, they would be an output of some cell.
        show = partial(self._show_arrived, variant)
        return code, {"__builtins__": builtins, "print": _Arrived(request.chunk_text, show), name: client.client}

    async def _run(self, variant: _Variant, code: Any, names: dict[str, Any]) -> None:
        """Run a variant to its end, on the main thread and in a context of its own."""
        try:
            with _interruptible(variant):
                if variant.stopped or self._busy():
                    variant.problem = STOPPED if variant.stopped else BUSY
                else:
                    await self._call(variant, code, names)
        except (KeyboardInterrupt, asyncio.CancelledError):
            variant.problem = STOPPED
        except BaseException as error:  # boundary: of the user's client; it may even exit
            text = f"{type(error).__name__}: {text_of(error)}"
            redacted = redactor_of(self._tracer.settings).text(text)[0][:ERROR_LENGTH]
            # A client that is interrupted may fail in its own way, such as in a cancel scope of anyio.
            variant.problem = STOPPED if variant.stopped else redacted
        names.clear()
        self._end(variant)

    def _end(self, variant: _Variant) -> None:
        """Read what a variant answered, and send it to the page."""
        try:
            registry.wait_all_processed()
            if variant.arrived is not None:
                variant.answer = self._arrived_answer(variant.arrived, whole=not variant.problem)
            self._read(variant)
        except Exception as error:  # boundary: an error in a task is printed under some cell
            note_failure("Again", error)
        self._running = None
        self._push(variant)

    async def _call(self, variant: _Variant, code: Any, names: dict[str, Any]) -> None:
        """Run the code in the session of the original, with its limit and recording, inside the variant's span."""
        record = variant.original[0]
        otel.attach(with_cell(Context(), variant.key) if variant.key else Context())
        scope = SessionScope(self._tracer, session) if (session := self._session(record)) is not None else None
        replayed = None
        try:
            if scope is not None:
                scope.enter()
            replayed = variant.begin_replay()
            name = f"variant {variant.number} of {record.name}"
            marks = {keys.VARIANT: variant.number, keys.VARIANT_OF: f"{record.span_id:016x}"}
            with self._tracer.start_span(name, attributes={**marks, keys.EVENT_TYPE: "chain"}) as span:
                variant.trace_id = span.get_span_context().trace_id
                variant.in_call = True
                try:
                    result = eval(code, names)  # noqa: S307  the code of the user's call, made of literals
                    if inspect.iscoroutine(result):
                        result = await result
                finally:
                    variant.in_call = False
                registry.wait_all_processed()
                if not any(map(_is_call, self._records(variant))):
                    # Such as where an instrumentor of the framework traces calls, and none of the client's.
                    answer = result if variant.arrived is None else variant.arrived.text
                    span.set_attributes(span_attributes({"outputs": {keys.RESULT: _text_in(answer) or answer}}))
        finally:
            if replayed is not None:
                replayed.end()
            if scope is not None:
                scope.exit()

    def _session(self, record: SpanRecord) -> Session | None:
        if record.session_id is None:
            return None
        if record.session_id == self._tracer.session.id:
            return self._tracer.session
        known = self._sessions.history.by_id.get(record.session_id)
        return known or Session(record.session_id, self._sessions.title(record.session_id) or "")

    def _show_arrived(self, variant: _Variant, arrived: _Arrived) -> None:
        """Send what has arrived of a streamed answer to the page."""
        variant.arrived = arrived
        variant.answer = self._arrived_answer(arrived)
        self._push(variant)

    def _arrived_answer(self, arrived: _Arrived, *, whole: bool = False) -> list[dict[str, Any]]:
        """Return what has arrived as an answer, redacted like its span; empty if that cannot be done yet.

        A secret is known as one only if it is complete: unless the text is whole, its last word is left out. A function
        of the user's decides about values by their keys, so that the span has to show what is left.
        """
        redactor = redactor_of(self._tracer.settings)
        if not isinstance(redactor, Redactor):
            return []
        text = plain(redactor.text(arrived.text if whole else _LAST_WORD.sub("", arrived.text))[0])
        return [{"role": "assistant", "text": text}] if text else []

    def _push(self, variant: _Variant) -> None:
        record = variant.original[0]
        variant.push({"span": f"{record.span_id:016x}", "variant": self._shown(variant), **self._limit(record)})

    def _stop(self) -> bool:
        """Stop the variant that runs, as an interrupt of the kernel does; return whether there is one."""
        variant = self._running
        if variant is None:
            return False
        variant.stopped = True
        task = variant.task
        if threading.current_thread() is threading.main_thread():
            if task is not None:
                task.cancel()
        elif variant.in_call and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif variant.in_call:
            signal.raise_signal(signal.SIGINT)
        return True

    def model_span(self, span_id: int) -> SpanRecord | None:
        """Return the model span of a variant that is shown; None if it is none or no longer kept."""
        shown = (one.record for variants in self._variants.values() for one in variants if one.record is not None)
        return next((record for record in shown if record.span_id == span_id and self._log.details(record)), None)

    # What the page shows of a variant

    def _read(self, variant: _Variant) -> None:
        """Read answer, tokens and cost of a variant from its spans."""
        records = self._records(variant)
        variant.totals = summarize(records)
        if not records and not variant.problem:
            variant.problem = "The call was made, but its span was not recorded."
        for record in sorted(records, key=lambda one: (not _is_call(one), one.start_ns)):
            details = self._log.details(record)
            variant.record = variant.record or record
            if details is not None and (answer := answer_messages(details)):
                variant.record, variant.answer = record, answer
                break
        texts = [_single_text(one) for one in (answer_messages(variant.original[1]), variant.answer)]
        variant.pieces = encode_pieces(*texts) if all(texts) else []

    def _records(self, variant: _Variant) -> list[SpanRecord]:
        return [one for one in self._log.records() if variant.trace_id and one.trace_id == variant.trace_id]

    def _shown(self, variant: _Variant) -> dict[str, Any]:
        before = variant.original[0], summarize([variant.original[0]])
        facts: list[tuple[str, str]] = []
        if variant.record is not None:
            facts = _facts(variant.record, variant.totals, before)
        elif variant.arrived is not None:
            words = fmt.count(len(variant.arrived.text.split()), "word")
            facts = [(f"first token {fmt.duration(variant.arrived.first_ns)}", ""), (f"{words} so far", "")]
        return {
            "number": variant.number,
            "arguments": variant.arguments,
            "facts": facts,
            "answer": list(variant.answer),
            "pieces": list(variant.pieces),
            "problem": variant.problem,
            "running": self._running is variant,
            **self._rated(variant.record),
        }

    def _rated(self, record: SpanRecord | None) -> dict[str, Any]:
        """Return the span that takes feedback on a variant, and what was given."""
        details = self._log.details(record) if record is not None else None
        if record is None or details is None:
            return {"span": "", "feedback": {}}
        return {
            "span": f"{record.span_id:016x}",
            "feedback": plain(content(details.attributes, details.events).feedback) or {},
        }


def _is_call(record: SpanRecord) -> bool:
    return record.facts.kind == "llm"


def _text_in(response: Any) -> str:
    """Return the text of a model's response as the client returned it; empty if it is more than a text."""
    messages = response_messages(as_data(response))
    text = messages[0].text if len(messages) == 1 else None
    return text if text and messages[0] == Message("assistant", text) else ""


def _single_text(answer: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of an answer that is nothing else; empty if it has other parts."""
    return str(answer[0]["text"]) if len(answer) == 1 and answer[0].keys() == {"role", "text"} else ""


def _sendable(arguments: Mapping[str, Any]) -> Any:
    """Return arguments as JSON that a page can read; None if they are too long for it."""
    text = json.dumps(dict(arguments), ensure_ascii=False, default=text_of)
    if len(text) > MAX_CHARACTERS:
        return None
    return json.loads(valid_utf8(text), parse_constant=str)


def _facts(
    record: SpanRecord, totals: Totals, before: tuple[SpanRecord, Totals] | None = None
) -> list[tuple[str, str]]:
    """Return time, tokens and cost of a call in words, each with its difference to another call, or an empty text.

    Args:
        record: the model's span.
        totals: of the call.
        before: span and totals of that other call.
    """
    old_ns = before[0].duration_ns if before is not None else record.duration_ns
    changed = before is not None and time_changed(old_ns, record.duration_ns)
    facts = [(fmt.duration(record.duration_ns), minus(time_change(old_ns, record.duration_ns)) if changed else "")]
    usage = record.facts.usage
    if usage is not None and usage.prompt is not None and usage.completion is not None:
        facts.append((f"{usage.prompt:,} in, {usage.completion:,} out", ""))
    if totals.replayed_calls:
        facts.append(("replayed", ""))
    elif text := fmt.cost(totals):
        facts.append((text, minus(cost_change(before[1].cost, totals.cost)) if before is not None else ""))
    return facts


@contextmanager
def _interruptible(variant: _Variant) -> Iterator[None]:
    """Let an interrupt of the kernel end a variant; outside cells, ipykernel ignores it.

    While a coroutine waits, messages and other cells may be handled, which set and restore the handler in turn. It is
    therefore put back only if it is the current one, and does nothing after the end.
    """

    def interrupt(*_: object) -> None:
        task = variant.task
        if not variant.in_call:
            return
        variant.stopped = True
        if task is not None and asyncio.current_task(task.get_loop()) is not task:
            variant.in_call = False
            task.get_loop().call_soon_threadsafe(task.cancel)
        else:
            variant.in_call = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)
