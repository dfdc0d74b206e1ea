"""Cells of a made-up support agent, as views and details: what the browser tests show and the harness serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.display.content import collect_content
from hh_jupyter.display.delta import RunDelta
from hh_jupyter.display.view import CellView, Limit, Notice
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import RecordedEvent, SpanDetails, SpanError, SpanRecord, failed_status
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import Ending, SpanTree
from tests.display.hostile import HOSTILE
from tests.pictures import PDF, SVG, WAV, data_uri, encoded, png

EPOCH = 1_760_000_000_000_000_000
SESSION = "3f2a91c0-4f89-41d3-9a0c-0305e82c3301"

SYSTEM = "You are a support agent for Northwind. Look up the order before you answer. Never promise a refund."
QUESTION = "Hi, order 48213 arrived with a cracked lid. Can I get my money back? The card on file ends in 4410."
ORDER = {"order_id": 48213, "status": "delivered", "total_usd": 34.0}
ANSWER = (
    "Sorry about the cracked lid. I have refunded $34.00 to the card ending in 4410, reference rf_20931. "
    "It usually shows within three working days.\n\nNo need to send the item back."
)

STACK = """Traceback (most recent call last):
  File "/home/ada/shop/agent.py", line 88, in support_agent
    refund = issue_refund(**args)
  File "/home/ada/shop/payments.py", line 57, in issue_refund
    return post_refund(body)
  File "/home/ada/shop/payments.py", line 41, in post_refund
    r.raise_for_status()
  File "/opt/venv/lib/python3.11/site-packages/requests/models.py", line 1026, in raise_for_status
    raise HTTPError(http_error_msg, response=self)
requests.exceptions.HTTPError: 503 Service Unavailable
"""


@dataclass(slots=True)
class Cell:
    """Spans of one cell, added in milliseconds after its start."""

    trace_id: int
    records: list[SpanRecord] = field(default_factory=list)
    details: dict[str, SpanDetails] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        name: str,
        start: float,
        end: float | None,
        *,
        parent: int | None = None,
        model: str | None = None,
        tokens: tuple[int, int] | None = None,
        cost: float | None = None,
        first: float | None = None,
        error: SpanError | None = None,
        attributes: Mapping[str, Any] | None = None,
        stack: str = "",
        redacted: int = 0,
    ) -> int:
        """Add a span; its id."""
        span_id = self.trace_id * 0x10000 + len(self.records) + 1
        usage = Usage(prompt=tokens[0], completion=tokens[1], total=sum(tokens)) if tokens else None
        facts = SpanFacts(
            kind=kind,
            event_type="model" if kind in ("llm", "embedding") else "chain" if kind in ("chain", "agent") else "tool",
            family="openinference",
            model=model,
            provider="openai" if model else None,
            usage=usage,
            cost=cost,
            first_token_ns=None if first is None else round(first * 1e6),
        )
        self.records.append(
            SpanRecord(
                trace_id=self.trace_id,
                span_id=span_id,
                parent_id=parent,
                name=name,
                start_ns=EPOCH + round(start * 1e6),
                end_ns=None if end is None else EPOCH + round(end * 1e6),
                status="running" if end is None else failed_status(error, {}) if error else "ok",
                facts=facts,
                scope="openinference.instrumentation.openai" if model else "shop",
                error=error,
                session_id=SESSION,
                redacted=redacted,
            )
        )
        events = (_exception(error, stack, self.records[-1]),) if error else ()
        self.details[f"{span_id:016x}"] = SpanDetails(attributes=dict(attributes or {}), events=events)
        return span_id

    def view(self, view_id: str, label: str, **changes: Any) -> CellView:
        """The cell as a display gets it; everything sent."""
        made = len(self.records)
        view = CellView(
            view_id=view_id,
            label=label,
            tree=SpanTree.build(self.records),
            totals=summarize(self.records),
            export=ExportState(destination="api.example", made=made, sent=made),
            session_name="refund-triage",
            session_id=SESSION,
        )
        return replace(view, **changes)


def _exception(error: SpanError, stack: str, record: SpanRecord) -> RecordedEvent:
    attributes = {"exception.type": error.type, "exception.message": error.message, "exception.stacktrace": stack}
    return RecordedEvent("exception", record.end_ns or record.start_ns, attributes)


def exchange(given: Any, got: Any = None) -> dict[str, Any]:
    """Input and output as OpenInference writes them."""
    attributes = {
        "openinference.span.kind": "TOOL",
        "input.value": json.dumps(given),
        "input.mime_type": "application/json",
    }
    if got is not None:
        text = isinstance(got, str)
        attributes["output.value"] = got if text else json.dumps(got)
        attributes["output.mime_type"] = "text/plain" if text else "application/json"
    return attributes


def conversation(*messages: Mapping[str, Any], model: str = "gpt-4.1") -> dict[str, Any]:
    """Messages as OpenInference flattens them; the last one is the answer."""
    attributes: dict[str, Any] = {"openinference.span.kind": "LLM", "llm.model_name": model}
    attributes["llm.invocation_parameters"] = json.dumps({"model": model, "temperature": 0})
    for index, message in enumerate(messages):
        last = index == len(messages) - 1
        prefix = "llm.output_messages.0.message." if last else f"llm.input_messages.{index}.message."
        for key in ("role", "content", "tool_call_id"):
            if key in message:
                attributes[prefix + key] = message[key]
        _calls(attributes, prefix, message.get("calls", ()))
    return attributes


def _calls(attributes: dict[str, Any], prefix: str, calls: Sequence[tuple[str, str, Any]]) -> None:
    for number, (name, call_id, arguments) in enumerate(calls):
        call = f"{prefix}tool_calls.{number}.tool_call."
        attributes[f"{call}id"] = call_id
        attributes[f"{call}function.name"] = name
        attributes[f"{call}function.arguments"] = json.dumps(arguments)


def support_agent(trace_id: int, *, fails: bool = False) -> Cell:
    """An agent with a retrieval of twelve embeddings, two tools and two or three model calls."""
    cell = Cell(trace_id)
    error = SpanError(
        "HTTPError", "503 Service Unavailable: upstream connect error. [redacted: api_key]", "payments.py:41", 503
    )
    root = cell.add(
        "agent",
        "support_agent",
        0,
        2384 if fails else 2842,
        error=error if fails else None,
        stack=STACK,
        attributes=exchange({"question": QUESTION}, None if fails else ANSWER),
    )
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    look = {"role": "assistant", "calls": [("get_order", "call_7Qa", {"order_id": 48213})]}
    cell.add(
        "llm",
        "plan",
        12,
        352,
        parent=root,
        model="gpt-4.1-mini",
        tokens=(412, 38),
        cost=0.000226,
        first=188,
        attributes=conversation(*turns, look, model="gpt-4.1-mini"),
    )
    search = cell.add(
        "retriever",
        "search_policy",
        360,
        702,
        parent=root,
        model="faiss",
        attributes=exchange({"query": "damaged item refund window", "k": 4}),
    )
    for i in range(12):
        start = 372 + i * 17 + (i % 3) * 3
        cell.add(
            "embedding",
            "embed_chunk",
            start,
            start + 42 + (i * 7) % 5 * 9,
            parent=search,
            model="text-embedding-3-small",
            tokens=(118 + i * 3, 0),
            cost=0.0000024,
        )
    cell.add("retriever", "vector_query", 630, 698, parent=search, attributes=exchange({"k": 4}, {"hits": 4}))
    tool = cell.add("tool", "get_order", 364, 910, parent=root, attributes=exchange({"order_id": 48213}, ORDER))
    cell.add(
        "http",
        "GET /orders/48213",
        392,
        896,
        parent=tool,
        redacted=1,
        attributes={"http.request.method": "GET", "http.request.header.authorization": "[redacted: authorization]"},
    )
    found = {"role": "tool", "tool_call_id": "call_7Qa", "content": json.dumps(ORDER)}
    refund = {"order_id": 48213, "amount_usd": 34.0, "reason": "damaged_on_arrival"}
    decision = "The item arrived damaged inside the 30 day window, so it qualifies."
    decided = {"role": "assistant", "content": decision, "calls": [("issue_refund", "call_9Lx", refund)]}
    cell.add(
        "llm",
        "decide",
        918,
        1710,
        parent=root,
        model="gpt-4.1",
        tokens=(1836, 61),
        cost=0.00416,
        first=402,
        attributes=conversation(*turns, look, found, decided),
    )
    if fails:
        _failing_refund(cell, root, refund, error)
    else:
        given = {"refund_id": "rf_20931", "state": "accepted"}
        cell.add("tool", "issue_refund", 1718, 2041, parent=root, attributes=exchange(refund, given))
        result = {"role": "tool", "tool_call_id": "call_9Lx", "content": json.dumps(given)}
        reply = {"role": "assistant", "content": ANSWER}
        cell.add(
            "llm",
            "write_reply",
            2049,
            2836,
            parent=root,
            model="gpt-4.1",
            tokens=(1988, 94),
            cost=0.004728,
            first=316,
            attributes=conversation(*turns, look, found, decided, result, reply),
        )
    return cell


def _failing_refund(cell: Cell, root: int, refund: dict[str, Any], error: SpanError) -> None:
    given = exchange({**refund, "api_key": "[redacted: api_key]"})
    tool = cell.add("tool", "issue_refund", 1718, 2371, parent=root, error=error, stack=STACK, attributes=given)
    cell.add("http", "POST /refunds", 1724, 1934, parent=tool, error=replace(error, message="503 Service Unavailable"))
    cell.add(
        "http",
        "POST /refunds",
        2136,
        2366,
        parent=tool,
        error=error,
        stack=STACK,
        attributes=exchange({**refund, "attempt": 2}),
        redacted=1,
    )


def one_call(trace_id: int) -> Cell:
    """A single model call whose prompt holds markup."""
    cell = Cell(trace_id)
    asked = "Explain idempotency keys in one sentence. <img src=x onerror=alert(1)>"
    turns = (
        "An idempotency key is a unique token sent with a request so that the server can recognise a retry and return "
        "the first result instead of acting twice."
    )
    messages = conversation({"role": "user", "content": asked}, {"role": "assistant", "content": turns})
    cell.add(
        "llm", "chat", 0, 684, model="gpt-4.1-mini", tokens=(34, 52), cost=0.0000968, first=241, attributes=messages
    )
    return cell


def rag(trace_id: int) -> Cell:
    """A chain of one retrieval and one model call."""
    cell = Cell(trace_id)
    root = cell.add(
        "chain", "answer_question", 0, 1480, attributes=exchange("What changed in v3?", "Three things changed.")
    )
    cell.add("retriever", "retrieve", 8, 240, parent=root, attributes=exchange("v3", {"docs": 5}))
    turns = (
        {"role": "user", "content": "What changed in v3?"},
        {"role": "assistant", "content": "Three things changed."},
    )
    cell.add(
        "llm",
        "generate",
        246,
        1472,
        parent=root,
        model="claude-sonnet-4",
        tokens=(2210, 188),
        cost=0.00945,
        first=430,
        attributes=conversation(*turns, model="claude-sonnet-4"),
    )
    return cell


def running(trace_id: int) -> Cell:
    """The agent while its second model call is on the way."""
    cell = support_agent(trace_id)
    done = [record for record in cell.records if record.start_ns - EPOCH < 1_000_000_000]
    live = {"support_agent", "decide"}
    cell.records = [replace(r, end_ns=None, status="running") if r.name in live else r for r in done]
    return cell


def replayed(trace_id: int, *names: str) -> Cell:
    """The agent with its model and embedding calls answered from a recording, all of them or those with these names."""
    cell = support_agent(trace_id)
    for index, record in enumerate(cell.records):
        if record.facts.model not in (None, "faiss") and (not names or record.name in names):
            ms = record.duration_ns // 1_000_000
            facts = replace(record.facts, replayed=True, replayed_ms=ms, first_token_ns=None)
            cell.records[index] = replace(record, facts=facts, end_ns=record.start_ns + record.duration_ns // 8)
    return cell


def unrecorded(trace_id: int) -> Cell:
    """A call that was refused, because it is not in the recording."""
    cell = Cell(trace_id)
    text = "Error code: 404 - {'error': {'type': 'not_recorded', 'message': 'POST /v1/chat is not recorded'}}"
    error = SpanError("NotFoundError", text, "cell:2", 404)
    cell.add("llm", "support_agent", 0, 12, model="gpt-4.1", error=error)
    return cell


NOT_RECORDED = Notice(
    kind="error",
    title="POST /v1/chat/completions is not recorded in refund-triage.jsonl.",
    text=(
        'Compared with the nearest recorded request: messages[0].content is "…licy you rely on by its number.", was '
        '"…licy you rely on.". To send and record:'
    ),
    command="%hh replay auto",
)


def convert(trace_id: int) -> Cell:
    """An agent that caught one error, raised another one from the next, and whose last call was cancelled."""
    cell, answer = Cell(trace_id), SpanError("ValueError", "no answer", "agent.py:7")
    error = SpanError("RuntimeError", "gave up", "agent.py:12", causes=((answer.type, answer.message),))
    root = cell.add("chain", "ask_twice", 0, 60, error=error)
    cell.add("tool", "ask_first", 1, 20, parent=root, error=replace(answer, message="no words"))
    cell.add("tool", "ask_again", 21, 30, parent=root, error=answer)
    cell.add("tool", "slow_call", 22, 29, parent=root, error=SpanError("CancelledError", ""))
    return cell


def pictures(trace_id: int) -> Cell:
    """An agent that looks at pictures: drawn ones, some that are only named, and a screenshot that a tool returns."""
    cell = Cell(trace_id)
    root = cell.add("agent", "inspect_listing", 0, 3_150, attributes=exchange({"listing": 77}, "The photos match."))
    shot = {"title": "Listing 77", "screenshot": data_uri(png(900, 500))}
    cell.add("tool", "take_screenshot", 20, 640, parent=root, attributes=exchange({"listing": 77}, shot))
    parts = [
        {"type": "text", "content": "Do these photos show the same place as the plan?"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": encoded(png(640, 480))},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": encoded(png(90, 400))},
        {"type": "uri", "modality": "image", "uri": "https://example.org/listings/77/photos/front-garden.jpg"},
        {"type": "blob", "modality": "image", "mime_type": "image/svg+xml", "content": encoded(SVG)},
        {"type": "file", "file": {"filename": "floor plan.pdf", "file_data": data_uri(PDF, "application/pdf")}},
        {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "__REDACTED__"}},
        {"type": "blob", "modality": "image", "content": encoded(png(1024, 768, noise=3_000_000))},
    ]
    result = [{"type": "image", "mimeType": "image/png", "data": encoded(png(900, 500))}]
    messages = [
        {"role": "user", "parts": parts},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": result}]},
    ]
    turn = [{"role": "assistant", "parts": [{"type": "text", "content": "Yes: the hill and the garden are the same."}]}]
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(turn),
    }
    cell.add("llm", "compare_photos", 660, 3_120, parent=root, model="gpt-4.1", tokens=(2_410, 48), attributes=asked)
    return cell


def picture(trace_id: int) -> Cell:
    """A single model call about a picture, as OpenInference flattens it."""
    cell = Cell(trace_id)
    contents = "llm.input_messages.0.message.contents"
    messages = conversation({"role": "user"}, {"role": "assistant", "content": "A hill under the morning sun."})
    messages[f"{contents}.0.message_content.type"] = "text"
    messages[f"{contents}.0.message_content.text"] = "What is in this picture?"
    messages[f"{contents}.1.message_content.type"] = "image"
    messages[f"{contents}.1.message_content.image.image.url"] = data_uri(png(320, 200))
    cell.add("llm", "chat", 0, 912, model="gpt-4.1-mini", tokens=(270, 9), attributes=messages)
    return cell


def offered(*tools: tuple[str, str, Mapping[str, str]], **params: Any) -> dict[str, Any]:
    """Tools and parameters of a request as OpenInference writes them; all arguments but the last one are required."""
    attributes: dict[str, Any] = {"llm.invocation_parameters": json.dumps(params)} if params else {}
    for index, (name, description, arguments) in enumerate(tools):
        schema = {
            "type": "object",
            "properties": {argument: {"type": kind} for argument, kind in arguments.items()},
            "required": list(arguments)[:-1],
        }
        function = {"name": name, "description": description, "parameters": schema}
        attributes[f"llm.tools.{index}.tool.json_schema"] = json.dumps({"type": "function", "function": function})
    return attributes


def documents(*found: tuple[float | None, str, str]) -> dict[str, Any]:
    """Retrieved documents as OpenInference flattens them: score, source and text."""
    attributes: dict[str, Any] = {}
    for index, (score, source, text) in enumerate(found):
        prefix = f"retrieval.documents.{index}.document."
        attributes |= {f"{prefix}content": text, f"{prefix}metadata": json.dumps({"source": source})}
        if score is not None:
            attributes[f"{prefix}score"] = score
    return attributes


def long_chat(trace_id: int) -> Cell:
    """A retrieval with scored documents, and a long chat with tools, parameters, a picture, metrics and feedback."""
    cell = Cell(trace_id)
    root = cell.add("agent", "support_agent", 0, 1_200, attributes=exchange({"question": QUESTION}, ANSWER))
    found = documents(
        (
            0.91,
            "policy.md §4.2",
            "Items that arrive damaged are refunded in full or replaced, as the customer chooses.",
        ),
        (0.84, "policy.md §4.3", "Replacements leave on the same working day when they are ordered before 15:00."),
        (0.31, "policy.md §5.1", "Opened hygiene articles cannot be returned."),
    )
    asked = exchange({"query": "cracked lid refund", "k": 4})
    cell.add("retriever", "search_policy", 10, 339, parent=root, model="faiss", attributes={**asked, **found})
    turns: list[dict[str, Any]] = [{"role": "system", "content": f"{SYSTEM}\n\n1. Be brief.\n2. Name the policy."}]
    for number in range(4):
        turns += [
            {"role": "user", "content": f"Question {number}: is the lid {number} cracked?"},
            {"role": "assistant", "content": json.dumps({"lid": number, "cracked": number % 2 == 1})},
        ]
    messages = conversation(*turns, {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER})
    contents = "llm.input_messages.9.message.contents"
    del messages["llm.input_messages.9.message.content"]
    messages[f"{contents}.0.message_content.type"] = "text"
    messages[f"{contents}.0.message_content.text"] = QUESTION
    messages[f"{contents}.1.message_content.type"] = "image"
    messages[f"{contents}.1.message_content.image.image.url"] = data_uri(png(320, 200))
    request = offered(
        ("get_order", "The order with its parcels and payments.", {"order_id": "integer"}),
        ("check_limit", "Whether the amount may be refunded.", {"order_id": "integer", "amount": "number"}),
        model="gpt-4.1",
        temperature=0.2,
        max_tokens=160,
    )
    given = {
        "honeyhive_metrics.grounded": 0.92,
        "honeyhive_metrics.decision": "yes",
        "honeyhive_feedback.stars": 4,
        "ticket.customer_tier": "gold",
        "very_long_name_without_any_place_to_break_it_in_two_whatever_the_width": '{"b": [1, 2, 3], "more": true}',
        "server.address": "api.example",
        "http.response.header.x-request-id": "req_8f0c1d3b7a9e4c55b1d2e3f4a5b6c7d8",
    }
    cell.add(
        "llm",
        "write_reply",
        400,
        1_162,
        parent=root,
        model="gpt-4.1",
        tokens=(2055, 52),
        cost=0.0045,
        first=298,
        attributes={**messages, **request, **given},
    )
    return cell


def digits(trace_id: int) -> Cell:
    """A model call that answers in JSON with a number that is too large for a browser."""
    cell = Cell(trace_id)
    answer = {"role": "assistant", "content": '{"id": 12345678901234567890}'}
    cell.add("llm", "chat", 0, 90, attributes=conversation({"role": "user", "content": "Which id?"}, answer))
    return cell


def album(trace_id: int) -> Cell:
    """Six looks at a picture each."""
    cell = Cell(trace_id)
    root = cell.add("chain", "sort_album", 0, 600)
    for number in range(6):
        given = exchange({"shot": data_uri(png(40, 30))}, f"picture {number}")
        cell.add("tool", f"look {number}", number * 100, number * 100 + 90, parent=root, attributes=given)
    return cell


def gathered(trace_id: int, calls: int = 50) -> Cell:
    """Equal model calls at the same time, in groups below groups; the last one to end is below the last group."""
    cell = Cell(trace_id)
    root = cell.add("chain", "review_all", 0, 3_000 + calls)
    for group in range(4):
        above = cell.add("chain", "review_part", group, 3_000 + group, parent=root)
        for number in range(calls if group == 3 else 4):
            turns = ({"role": "user", "content": f"Review {group}.{number}"}, {"role": "assistant", "content": "Good."})
            end = 900 + 10 * number + group
            cell.add("llm", "review", 5, end, parent=above, model="gpt-4.1", attributes=conversation(*turns))
    return cell


def traced_twice(trace_id: int) -> Cell:
    """A model call by an instrumentor, and below it the span that the client makes itself, without messages."""
    cell = Cell(trace_id)
    root = cell.add("chain", "answer_question", 0, 1_500)
    turns = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION})
    messages = conversation(*turns, {"role": "assistant", "content": ANSWER}, model="claude-sonnet-4")
    call = cell.add("llm", "messages.create", 10, 1_490, parent=root, model="claude-sonnet-4", attributes=messages)
    sent = {"http.response.status_code": 200}
    cell.add("llm", "POST https://api.example/v1/messages", 12, 1_488, parent=call, attributes=sent)
    return cell


def many(trace_id: int, examples: int = 1250) -> Cell:
    """An evaluation of eight spans per example, two of which fail."""
    cell = Cell(trace_id)
    limit = SpanError("RateLimitError", "429 rate limit reached for gpt-4.1-mini", "eval.py:31", 429)
    root = cell.add("chain", "evaluate_dataset", 0, 94_000, error=limit)
    for i in range(examples):
        lane = i % 16
        start = 20 + i // 16 * 1190 + lane * 22 + (i * 7919) % 90
        length = 700 + (i * 104_729) % 420
        error = limit if i in (402, 911) else None
        run = cell.add("chain", "run_example", start, start + length + 30, parent=root, error=error)
        found = cell.add("retriever", "retrieve", start + 6, start + 110, parent=run)
        for j in range(4):
            cell.add("embedding", "embed_query", start + 10 + j * 22, start + 28 + j * 22, parent=found, tokens=(12, 0))
        cell.add(
            "llm",
            "answer",
            start + 116,
            start + length - 60,
            parent=run,
            model="gpt-4.1-mini",
            tokens=(640 + i % 200, 90),
            cost=0.00042,
            first=120,
            error=error,
        )
        cell.add("tool", "score_exact", start + length - 55, start + length + 20, parent=run)
    return cell


def hostile(trace_id: int) -> Cell:
    """A span for each text of the corpus, which stands wherever a span may carry text."""
    cell = Cell(trace_id)
    root = cell.add("agent", "hostile", 0, 100 + len(HOSTILE))
    for index, text in enumerate(HOSTILE.values()):
        turns = conversation(
            {"role": text[:1000], "content": text},
            {"role": "tool", "content": text, "tool_call_id": text[:1000]},
            {"role": "assistant", "content": text, "calls": [(text[:1000], text[:1000], {text[:1000]: text})]},
        )
        error = SpanError(text[:1000], text[:2000], text[:200])
        more = {f"odd.{text[:1000]}": text, "input.value": text, "output.value": text}
        more |= offered(
            (text[:1000], text[:2000], {text[:100]: text[:100], "last": text[:50]}), **{text[:100]: text[:2000]}
        )
        more |= documents((0.5, text[:1000], text[:5000]))
        more |= {"honeyhive_metrics.score": text[:1000], "honeyhive_feedback.note": text[:1000]}
        cell.add(
            text[:20],
            text,
            index,
            index + 50,
            parent=root,
            model=text[:1000],
            error=error,
            stack=text[:5000],
            attributes={**turns, **more},
        )
    return cell


def _kept(details: Mapping[int, SpanDetails], record: SpanRecord) -> SpanDetails:
    return details[record.span_id]


def sample_views() -> tuple[dict[str, CellView], dict[str, dict[str, SpanDetails]]]:
    """Views by id, and the details of each by span id."""
    cells = {
        "bar": rag(1),
        "agent": support_agent(2),
        "one": one_call(3),
        "err": support_agent(4, fails=True),
        "run": running(5),
        "fail": rag(6),
        "local": rag(7),
        "big": many(8),
        "hostile": hostile(9),
        "pictures": pictures(10),
        "picture": picture(11),
        "album": album(12),
        "gathered": gathered(13),
        "twice": traced_twice(14),
        "converted": convert(15),
        "outside": convert(16),
        "limited": support_agent(19),
        "stopped": support_agent(20, fails=True),
        "replayed": replayed(17),
        "partly": replayed(18, "decide"),
        "unrecorded": unrecorded(19),
        "again": rag(17),
        "chat": long_chat(21),
        "digits": digits(22),
    }
    delta = RunDelta(
        "", "-120 ms", "+33 tokens", "-$0.0002", "2 calls changed", "run 3 of this cell, 14:02", "%hh diff 4"
    )
    refused = Notice(
        kind="error",
        title="3 spans are not sent.",
        text="api.example rejected the key (401). They are kept.",
        command="%hh login",
        sends=True,
    )
    nothing = Notice(
        kind="info",
        title="Local mode.",
        text="Nothing leaves this machine. To send this session later:",
        command="%hh send",
    )
    spent = Limit(used="~$0.4988 of $0.50", share=0.9976, spent=0.4988, stopped=True)
    limit_reached = Notice(
        kind="error",
        title="Stopped before the call.",
        text="~$0.4988 of $0.50 spent. 61 calls went out, 3 did not. To raise the limit:",
        command="%%hh_session refund-batch --max-cost 1",
    )
    own = SpanError("LookupError", "<b>no order</b>", "cell:7")
    outside = SpanTree.build(cells["outside"].records, ending=Ending(2**63, own))
    unsent = ExportState(destination="api.example", made=3, rejected=3, failing=True)
    changes: dict[str, dict[str, Any]] = {
        "agent": {"mode": "tree", "session_url": "https://app.example/s/3f2a91c0"},
        "one": {"mode": "tree"},
        "err": {"raised": True},
        "run": {"mode": "tree", "export": ExportState(destination="api.example", made=19, sent=13)},
        "fail": {"export": unsent, "notice": refused},
        "local": {"export": ExportState(destination=None, made=3), "notice": nothing},
        "limited": {"limit": Limit(used="~$0.31 of $0.50", share=0.62, spent=0.0093)},
        "stopped": {"raised": True, "mode": "line", "limit": spent, "notice": limit_reached},
        "replayed": {"mode": "tree"},
        "partly": {"mode": "tree"},
        "unrecorded": {"raised": True, "unrecorded": 1, "notice": NOT_RECORDED},
        "big": {"mode": "tree"},
        "pictures": {"mode": "tree"},
        "picture": {"mode": "tree"},
        "album": {"mode": "tree"},
        "digits": {"mode": "tree"},
        "chat": {"mode": "tree", "session_url": "https://app.example/s/3f2a91c0"},
        "converted": {"mode": "tree", "raised": True},
        "outside": {"raised": True, "tree": outside},
        "again": {"delta": delta},
        "hostile": {"mode": "tree", "session_url": "javascript:alert(1)", "session_name": HOSTILE["attribute"]},
    }
    views = {
        name: cell.view(f"hh-{name}", str(number), **changes.get(name, {}))
        for number, (name, cell) in enumerate(cells.items(), start=3)
    }
    details = {f"hh-{name}": cell.details for name, cell in cells.items()}
    for name in ("hostile", "picture"):
        load = {int(span_id, 16): found for span_id, found in cells[name].details.items()}
        content, omitted = collect_content(views[name].tree, "full", partial(_kept, load))
        views[name] = replace(views[name], detail="full", content=content, content_omitted=omitted)
    return views, details
