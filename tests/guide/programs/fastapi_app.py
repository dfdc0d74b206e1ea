from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from hh_jupyter import HoneyHiveTracer, trace

app = FastAPI()
tracer = HoneyHiveTracer.init(skip_backend_session_creation=True)  # Once, at start; sessions are the requests'.


@app.middleware("http")
async def one_session(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    known = request.headers.get("X-Session-ID")  # A later turn of a conversation.
    session_id = await tracer.acreate_session("chat", session_id=known, skip_api_call=bool(known))
    try:
        response = await call_next(request)
    except Exception as error:  # It becomes a response 500 further out.
        tracer.enrich_session(outputs={"status": 500}, metadata={"error": repr(error)})
        raise
    tracer.enrich_session(outputs={"status": response.status_code})
    response.headers["X-Session-ID"] = session_id
    return response


@app.get("/ask/{question}")
@trace(event_type="chain")
async def ask(question: str) -> str:
    return question.upper()
