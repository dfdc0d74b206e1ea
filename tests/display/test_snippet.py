"""Copy as Python: the line that fetches the span in this kernel, and the code of its call."""

from __future__ import annotations

import ast

from hh_jupyter.display.call_code import call_code
from hh_jupyter.display.snippet import MAX_CHARACTERS, python_code
from hh_jupyter.records.record import SpanDetails, record_of
from tests.display.views import view
from tests.spans import recorded


def test_it_is_the_line_and_the_same_code_as_that_of_edit() -> None:
    span = next(span for span in recorded("openinference-openai-chat.json") if span.name == "ChatCompletion")
    record, details = record_of(span), SpanDetails(attributes=dict(span.attributes or {}))
    shown = view([record], mode="tree")
    code = python_code(shown, record, details)
    ast.parse(code)
    line = "import hh_jupyter\n\nspan = hh_jupyter.spans(cell=4, name='ChatCompletion')[0]"
    assert code == f"{line}\n\n{call_code(record, details)}"
    assert python_code(shown, record, None) == line
    long = SpanDetails(
        attributes={
            **details.attributes,
            "input.value": None,
            "llm.input_messages.0.message.content": "a " * MAX_CHARACTERS,
        }
    )
    assert python_code(shown, record, long) == line
