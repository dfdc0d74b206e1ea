from fastapi import FastAPI

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.runtimes.asgi import SessionMiddleware

tracer = HoneyHiveTracer.init(skip_backend_session_creation=True)  # Once, at start; sessions are the requests'.
app = FastAPI()
app.add_middleware(SessionMiddleware, exclude=["/health"])


@app.get("/ask/{question}")
@trace(event_type="chain")
async def ask(question: str) -> str:
    return question.upper()
