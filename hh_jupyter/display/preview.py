"""What a row shows of a span's content: the arguments of a tool, the answer of a model, the question to an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import Message, SpanContent
from hh_jupyter.display import media
from hh_jupyter.display.format import clean
from hh_jupyter.records.record import SpanDetails, SpanRecord

LENGTH: Final = 60
"""Characters of a preview."""

MAX_ARGUMENTS: Final = 8
"""Arguments of which the first scalars are shown."""

_ARROW: Final = "\N{RIGHTWARDS ARROW}"
_NOTHING: Final = frozenset({"http", "db"})
"""Kinds whose name says what was requested."""


def preview(record: SpanRecord, details: SpanDetails | None) -> str:
    """Return one line, redacted as the content is; empty if there is nothing to show.

    Examples: `city=Oslo k=4`, `→ check_limit`, `→ "Sorry about the lid."`, `"Can I get my money back?"`.
    """
    if details is None or record.facts.kind in _NOTHING:
        return ""
    shown = content(details.attributes, details.events)
    text = _answer(shown) if record.facts.kind == "llm" else _given(shown)
    return clean(text, LENGTH)


def previews(
    records: Sequence[SpanRecord],
    load: Callable[[Sequence[SpanRecord]], Mapping[tuple[int, int], SpanDetails]],
) -> dict[int, str]:
    """Return the previews by span id, of the spans that have one.

    Args:
        records: the spans.
        load: returns the details of records by trace and span id, as far as they are kept.
    """
    details = load(records)
    found = {one.span_id: preview(one, details.get((one.trace_id, one.span_id))) for one in records}
    return {span_id: text for span_id, text in found.items() if text}


def _answer(shown: SpanContent) -> str:
    called = [call.name for message in shown.output_messages for call in message.tool_calls]
    if called:
        return f"{_ARROW} {', '.join(called)}"
    text = _last_text(shown.output_messages) or (shown.output if isinstance(shown.output, str) else "")
    return f"{_ARROW} {_quoted(text)}" if text else ""


def _given(shown: SpanContent) -> str:
    if isinstance(shown.input, Mapping):
        scalars = [(str(name), value) for name, value in _first(shown.input) if _is_scalar(value)]
        words = [f"{name}={_word(value)}" for name, value in scalars]
        return _word(scalars[0][1], quoted=True) if _is_question(scalars) else " ".join(words)
    if isinstance(shown.input, str) and shown.input:
        return _quoted(shown.input)
    return _quoted(text) if (text := _last_text(shown.input_messages)) else ""


def _first(given: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    yield from list(given.items())[:MAX_ARGUMENTS]


def _is_scalar(value: Any) -> bool:
    return value is not None and isinstance(value, str | int | float) and value != ""


def _is_question(scalars: Sequence[tuple[str, Any]]) -> bool:
    """Whether the only argument is a sentence, whose name says nothing more."""
    return len(scalars) == 1 and isinstance(scalars[0][1], str) and len(scalars[0][1].split()) > 2


def _word(value: Any, *, quoted: bool = False) -> str:
    if not isinstance(value, str):
        return str(value)[: 2 * LENGTH]
    text = media.without_base64(value[: 8 * LENGTH])
    return _quoted(text) if quoted or any(map(str.isspace, text)) else text


def _quoted(text: str) -> str:
    """Return the beginning of a text in quotation marks."""
    head = clean(media.without_base64(text[: 8 * LENGTH]), LENGTH - 4)
    return f'"{head}"' if head else ""


def _last_text(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.text), "")
