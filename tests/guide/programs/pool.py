from concurrent.futures import ProcessPoolExecutor

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.runtimes.workers import traced

tracer = HoneyHiveTracer.init(session_name="nightly")


@trace(event_type="chain")
def answer(question: str) -> str:
    return question.upper()


if __name__ == "__main__":
    with tracer.with_session("batch 7"), ProcessPoolExecutor() as pool:  # Or ThreadPoolExecutor.
        print(list(pool.map(traced(answer), ["why?", "how?"])))
