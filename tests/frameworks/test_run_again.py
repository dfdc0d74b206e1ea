"""A model call of a framework is made again from the page, by the client inside the framework's model."""

from __future__ import annotations

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.again import Page, texts
from tests.kernel.driver import Kernel

MODEL = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="gpt-4o", temperature=0.2)
"""


@pytest.mark.parametrize("libraries", ["langchain", "langchain openai"])
def test_the_client_inside_a_model_of_langchain_makes_its_call_again(
    kernel: Kernel, fake: FakeLLM, libraries: str
) -> None:
    assert kernel.run(f"%hh instrument {libraries}").reply == "ok"
    page = Page(kernel, f"{MODEL}model.invoke([('system', 'Be brief.'), ('user', 'Hello')]);")
    assert page.request["problem"] is None
    assert page.request["client"] == "Sent by a client of this kernel (OpenAI) to 127.0.0.1."
    assert [message["content"] for message in page.arguments["messages"]] == ["Be brief.", "Hello"]
    assert len(fake.log) == 1
    variant = page.run(temperature=0.9)
    assert (variant["problem"], len(fake.log)) == ("", 2)
    sent = fake.last_request[1]
    assert (sent["model"], sent["temperature"]) == ("gpt-4o", 0.9)
    assert [message["content"] for message in sent["messages"]] == ["Be brief.", "Hello"]
    assert texts(variant) == ["Hello! How can I help you today?"]
    if "openai" in libraries:  # Else the call has no span of its own.
        assert "14 in, 8 out" in [fact for fact, _ in variant["facts"]]
