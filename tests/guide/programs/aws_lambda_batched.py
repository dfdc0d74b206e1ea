from typing import Any

from hh_jupyter import HoneyHiveTracer, trace

_tracer: HoneyHiveTracer | None = None


@trace(event_type="chain")
def answer(question: str) -> str:
    return question.upper()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    global _tracer
    if _tracer is None:
        _tracer = HoneyHiveTracer.init(session_name="cold-start")
    try:
        with _tracer.with_session("ticket", inputs=event) as session_id:
            answer(event["question"])
            return {"session_id": session_id}
    finally:
        _tracer.force_flush()
