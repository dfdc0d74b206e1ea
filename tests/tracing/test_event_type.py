"""An `EventType` is accepted wherever the text of an event type is."""

from __future__ import annotations

import enum
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter import attributes as keys
from hh_jupyter.testing import Backend


class OfficialEventType(str, enum.Enum):  # noqa: UP042
    """The enum of the official package, which may be installed as well."""

    chain = "chain"
    tool = "tool"


def test_the_members_are_the_event_types_of_the_backend() -> None:
    assert [str(member) for member in hh.EventType] == [*keys.EVENT_TYPES, "session"]
    assert all(member == member.name for member in hh.EventType)


@pytest.mark.parametrize("kind", [hh.EventType, OfficialEventType])
def test_every_call_with_an_event_type_accepts_a_member(kind: Any, backend: Backend) -> None:
    with hh.HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer:
        hh.trace(event_type=kind.chain, event_name="decorated")(len)("")
        hh.trace(kind.chain, "by position")(len)("")
        with tracer.trace("block", event_type=kind.chain):
            pass
        with tracer.start_span("started", attributes={keys.EVENT_TYPE: kind.chain}):
            pass
        tracer.create_event("keyword", event_type=kind.chain)
        tracer.create_event({"event_name": "field", "event_type": kind.chain})
        assert tracer.force_flush()
    spans = {span["name"]: span["attributes"][keys.EVENT_TYPE] for span in backend.spans()}
    assert spans == dict.fromkeys(("decorated", "by position", "block", "started"), "chain")
    events = [call.body["event"] for call in backend.requests if (call.method, call.path) == ("POST", "/events")]
    assert [event["event_type"] for event in events] == ["chain", "chain"]
