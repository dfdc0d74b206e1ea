from flask import Flask

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.runtimes.flask import init_app

tracer = HoneyHiveTracer.init(skip_backend_session_creation=True)  # Once, at start; sessions are the requests'.
app = Flask(__name__)
init_app(app, exclude=["/health"])


@app.get("/ask/<question>")
@trace(event_type="chain")
def ask(question: str) -> str:
    return question.upper()
