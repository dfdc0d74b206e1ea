from hh_jupyter import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(skip_backend_session_creation=True)  # No session but the conversations.


@trace(event_type="chain")
def answer(question: str) -> str:
    return question.upper()


def turn(question: str, conversation: str | None = None) -> tuple[str, str]:
    """The reply, and the conversation's id to call with the next time, in whatever process that is."""
    conversation = tracer.create_session("chat", session_id=conversation, skip_api_call=bool(conversation))
    return answer(question), conversation
