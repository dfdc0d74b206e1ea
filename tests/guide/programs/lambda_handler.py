from typing import Any

from hh_jupyter import trace
from hh_jupyter.runtimes.aws_lambda import session_handler


@trace(event_type="chain")
def answer(question: str) -> str:
    return question.upper()


@session_handler
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"reply": answer(event["question"])}  # When this returns, everything has been sent.
