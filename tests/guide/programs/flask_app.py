from flask import Flask, Response, g

from hh_jupyter import HoneyHiveTracer, trace

app = Flask(__name__)
tracer = HoneyHiveTracer.init(skip_backend_session_creation=True)  # Once, at start; sessions are the requests'.


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
