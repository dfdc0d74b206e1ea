from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from hh_jupyter import HoneyHiveTracer, trace

app = FastAPI()
tracer = HoneyHiveTracer.init(session_name="api")  # Once, at start.


@app.middleware("http")
async def one_session(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    known = request.headers.get("X-Session-ID")  # A later turn of a conversation.
    session_id = await tracer.acreate_session("chat", session_id=known, skip_api_call=bool(known))
    response = await call_next(request)
    tracer.enrich_session(outputs={"status": response.status_code})
    response.headers["X-Session-ID"] = session_id
    return response


@app.get("/ask/{question}")
@trace(event_type="chain")
async def ask(question: str) -> str:
    return question.upper()
