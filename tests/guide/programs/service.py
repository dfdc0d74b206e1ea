from flask import Flask, request

from hh_jupyter import HoneyHiveTracer, trace, with_distributed_trace_context

app = Flask(__name__)
tracer = HoneyHiveTracer.init(session_name="stock", skip_backend_session_creation=True)


@trace(event_type="tool")
def look_up(item: str) -> str:
    return f"{len(item)} of {item}"


@app.get("/stock/<item>")
def stock(item: str) -> str:
    with with_distributed_trace_context(dict(request.headers), tracer):
        return look_up(item)
