import httpx

from hh_jupyter import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(session_name="shop")


@trace(event_type="chain")
def order(item: str, service: str) -> str:
    headers: dict[str, str] = {}
    tracer.inject_context(headers)
    return httpx.get(f"{service}/stock/{item}", headers=headers).text
