from fastapi import FastAPI, Request

from hh_jupyter import HoneyHiveTracer, trace, with_distributed_trace_context

app = FastAPI()
tracer = HoneyHiveTracer.init(session_name="stock", skip_backend_session_creation=True)


@trace(event_type="tool")
async def look_up(item: str) -> str:
    return f"{len(item)} of {item}"


@app.get("/stock/{item}")
async def stock(item: str, request: Request) -> str:
    with with_distributed_trace_context(request.headers, tracer):
        return await look_up(item)
