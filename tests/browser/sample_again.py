"""A model call of the support agent that is being made again: its request, the original answer and the variants."""

from __future__ import annotations

from typing import Any

from hh_jupyter.display.diff_columns import encode_pieces
from tests.browser.sample_cells import ANSWER, QUESTION, SYSTEM

MINI = (
    "I am sorry that the lid arrived cracked. I have refunded $34.00 to the card ending in 4410, reference rf_20931. "
    "It usually shows within five working days."
)
_SCHEMA = {"type": "object", "properties": {"order_id": {"type": "integer"}, "reason": {}}, "required": ["order_id"]}
_ARGUMENTS: dict[str, Any] = {
    "model": "gpt-4.1",
    "temperature": 0.2,
    "max_tokens": 160,
    "messages": [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"order_id": 48213, "total_usd": 34.0}'},
    ],
    "tools": [
        {"type": "function", "function": {"name": name, "parameters": _SCHEMA}}
        for name in ("get_order", "check_limit", "issue_refund")
    ],
}
_SYSTEM = {"role": "system", "content": f"{SYSTEM} Answer in one short and friendly sentence."}


def _answer(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "text": text}]


def sample_request(*variants: dict[str, Any]) -> dict[str, Any]:
    """What the kernel answers when the request is opened."""
    return {
        "name": "write_reply",
        "arguments": _ARGUMENTS,
        "messages_in": "messages",
        "system_in": None,
        "parameters": ["max_tokens", "seed", "stop", "temperature", "top_p"],
        "models": ["gpt-4.1", "gpt-4.1-mini"],
        "remarks": [],
        "problem": None,
        "client": "Sent by client to api.openai.com.",
        "estimate": {
            "cost": "~$0.0045",
            "text": "At most $0.0054: 2,060 tokens in, up to 160 out.",
            "spent": "$0.31 of $0.50 spent.",
            "raise": "",
        },
        "original": {
            "facts": [["762 ms", ""], ["2,055 in, 52 out", ""], ["~$0.0045", ""]],
            "answer": _answer(ANSWER),
        },
        "variants": list(variants),
    }


ENDED: dict[str, Any] = {
    "number": 1,
    "arguments": {**_ARGUMENTS, "model": "gpt-4.1-mini"},
    "facts": [["611 ms", "−151 ms"], ["2,055 in, 41 out", ""], ["~$0.0009", "−$0.0036"]],
    "answer": _answer(MINI),
    "pieces": encode_pieces(ANSWER, MINI),
    "problem": "",
    "running": False,
    "span": f"{161:016x}",
    "feedback": {},
}
FAILED: dict[str, Any] = {
    **ENDED,
    "number": 2,
    "span": f"{162:016x}",
    "arguments": {**_ARGUMENTS, "model": "gpt-5-pro"},
    "facts": [["95 ms", "−667 ms"]],
    "answer": [],
    "pieces": [],
    "problem": "NotFoundError: Error code: 404 - The model `gpt-5-pro` does not exist or you do not have access to it.",
}
ARRIVING: dict[str, Any] = {
    **ENDED,
    "number": 3,
    "arguments": {**_ARGUMENTS, "temperature": 0.7, "messages": [_SYSTEM, *_ARGUMENTS["messages"][1:]]},
    "facts": [["first token 341 ms", ""], ["17 words so far", ""]],
    "answer": _answer("Sorry about the lid! I have refunded $34.00 to the card ending in 4410, and it shows "),
    "pieces": [],
    "running": True,
}
