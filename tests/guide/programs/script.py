from hh_jupyter import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(session_name="nightly")  # Once, at module level.


@trace(event_type="chain")
def answer(question: str) -> str:
    return question.upper()


tracer.enrich_session(outputs={"reply": answer("why?")})
tracer.flush()  # To read the results elsewhere at once; at exit it happens automatically.
