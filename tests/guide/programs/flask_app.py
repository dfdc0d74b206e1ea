from flask import Flask, Response, g

from hh_jupyter import HoneyHiveTracer, trace

app = Flask(__name__)
tracer = HoneyHiveTracer.init(session_name="web")  # Once, at start.


@app.before_request  # Of the application, so that no request is left in the session of the one before.
def start_session() -> None:
    g.session_id = tracer.create_session("request")


@app.after_request
def finish_session(response: Response) -> Response:
    tracer.enrich_session(outputs={"status": response.status_code})
    response.headers["X-Session-ID"] = g.session_id
    return response


@app.get("/ask/<question>")
@trace(event_type="chain")
def ask(question: str) -> str:
    return question.upper()
