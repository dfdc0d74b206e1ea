"""A model call that is made again from the page: by the user's client, as a span of the session, and stoppable."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.again import Page, texts
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel
from tests.token_examples import example

pytestmark = pytest.mark.slow

SETUP = """%hh instrument
import anthropic, openai
client = openai.OpenAI()
def ask(model='gpt-4o', **more):
    messages = [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hello'}]
    return client.chat.completions.create(model=model, messages=messages, temperature=0.2, **more)
"""
KEY = "sk-" + "fake" * 8


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


@pytest.fixture
def kernel(start_kernel: StartKernel, fake: FakeLLM) -> Kernel:
    env = {"OPENAI_BASE_URL": f"{fake.url}/v1", "ANTHROPIC_BASE_URL": fake.url}
    made = start_kernel(**env, OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY)
    made.run(SETUP)
    fake.log.clear()
    return made


def spans_of_variants(kernel: Kernel) -> list[tuple[str, str, str]]:
    read = "[(one.name, one.facts.kind, one.session_id) for one in span_log().records() if '.v' in one.cell]"
    return list(kernel.value(read))


def test_a_changed_call_is_one_request_and_a_span_of_the_session(kernel: Kernel, fake: FakeLLM) -> None:
    page = Page(kernel, "%%hh_session triage\nask();")
    assert (page.request["name"], page.request["system_in"], page.request["messages_in"]) == (
        "ChatCompletion", None, "messages")  # fmt: skip
    assert page.request["problem"] is None
    assert page.request["client"] == "Sent by client to 127.0.0.1."
    assert len(fake.log) == 1
    variant = page.run(model="gpt-4.1", temperature=0.7)
    assert len(fake.log) == 2
    assert fake.last_request[1] == {**page.arguments, "model": "gpt-4.1", "temperature": 0.7}
    assert texts(variant) == ["Hello! How can I help you today?"]
    assert [fact for fact, _ in variant["facts"]][1:] == ["14 in, 8 out", "~$0.0001"]
    session = kernel.value("span_log().records()[0].session_id")
    names = ["ChatCompletion", "variant 1 of ChatCompletion"]
    assert spans_of_variants(kernel) == [(names[0], "llm", session), (names[1], "chain", session)]
    kernel.wait_for(lambda: "+1 variant" in page.cell.output.text, str(kernel.unknown_updates))
    assert kernel.value(f"len(hh.spans(cell={page.cell.count}))") == 1


def test_opening_estimating_and_copying_send_nothing(kernel: Kernel, fake: FakeLLM) -> None:
    page = Page(kernel, "ask(max_tokens=50);")
    estimate = page.ask("estimate", {**page.arguments, "model": "gpt-4.1"})
    assert (estimate["cost"], estimate["text"]) == ("~$0.0001", "At most $0.0004: 14 tokens in, up to 50 out.")
    assert page.ask("estimate", {**page.arguments, "model": "acme"})["text"].startswith("No price is known for acme")
    code = page.ask("code", {**page.arguments, "temperature": 1})
    assert "client.chat.completions.create(" in code
    assert "temperature=1," in code
    assert page.ask("stop") is False
    assert len(fake.log) == 1


def test_variants_are_numbered_and_there_again_when_the_request_is_opened_again(kernel: Kernel) -> None:
    page = Page(kernel, "ask();")
    numbers = [page.run()["number"], page.run(temperature=1)["number"]]
    assert numbers == [1, 2]
    known = page.ask("open")["variants"]
    assert [(one["number"], one["arguments"]["temperature"], one["running"]) for one in known] == [
        (1, 0.2, False), (2, 1, False)]  # fmt: skip
    kernel.wait_for(lambda: "+2 variants" in page.cell.output.text, "the cell does not count the variants")


def test_feedback_on_a_variant_is_kept_with_its_span(kernel: Kernel) -> None:
    page = Page(kernel, "ask();")
    variant = page.run(temperature=0.3)
    message = {"type": "feedback", "view": "hh-cell-1", "given": {"ok": True, "note": "kinder"}}
    kernel.ask({**message, "number": 901, "span": variant["span"]})
    assert page.message(type="answer", number=901)["value"] == ""
    assert page.ask("open")["variants"][0]["feedback"] == {"ok": True, "note": "kinder"}
    found = "[f'{one.span_id:016x}' for one in hh.spans(feedback={'ok': True})]"
    assert kernel.value(found) == [variant["span"]]
    kernel.ask({**message, "number": 902, "span": f"{1:016x}"})
    assert page.message(type="answer", number=902)["value"] == "Not saved: the span is no longer in memory."


def test_variants_are_no_runs_of_the_cell(kernel: Kernel) -> None:
    page = Page(kernel, "ask();")
    page.run(model="gpt-4.1")
    again = kernel.run("ask();", cell_id="cell-1")
    assert kernel.value(f"[one.facts.model_requested for one in hh.spans(cell={again.count})]") == ["gpt-4o"]
    assert "gpt-4.1" not in kernel.run(f"%hh diff {again.count}").stdout


@pytest.mark.parametrize("call", ["await aclient.chat.completions.create", "client.chat.completions.create"])
def test_async_and_streamed_calls_are_made_like_in_a_cell(kernel: Kernel, fake: FakeLLM, call: str) -> None:
    kernel.run("client = openai.OpenAI()" if "await" not in call else "del client; aclient = openai.AsyncOpenAI()")
    messages = "[{'role': 'user', 'content': 'Hello'}]"
    options = "stream=True, stream_options={'include_usage': True}" if "await" not in call else "seed=7"
    code = f"{call}(model='gpt-4o', messages={messages}, {options})"
    page = Page(kernel, f"{code};" if "await" in call else f"list({code});")
    variant = page.run(temperature=0.7)
    assert (variant["problem"], texts(variant)) == ("", ["Hello! How can I help you today?"])
    assert fake.last_request[1] == {**page.arguments, "temperature": 0.7}
    assert kernel.run("1 + 1").results == ["2"]


STREAMS = {
    "chat": "for chunk in client.chat.completions.create(model='gpt-4o', messages=[hello], stream=True): pass",
    "async": "async for chunk in await aclient.chat.completions.create(model='gpt-4o', messages=[hello], stream=True):"
    " pass",
    "responses": "for chunk in client.responses.create(model='gpt-4.1', input='Hello', stream=True): pass",
    "anthropic": "for chunk in claude.messages.create(model='claude-sonnet-4-0', max_tokens=64, messages=[hello],"
    " stream=True): pass",
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_appears_as_it_arrives_and_ends_like_any_other(kernel: Kernel, name: str) -> None:
    with FakeLLM(chunk_delay_ms=200) as slow:
        clients = {"chat": "client", "async": "aclient", "responses": "client", "anthropic": "claude"}
        made = {
            "client": f"openai.OpenAI(base_url='{slow.url}/v1')",
            "aclient": f"openai.AsyncOpenAI(base_url='{slow.url}/v1')",
            "claude": f"anthropic.Anthropic(base_url='{slow.url}')",
        }
        used = clients[name]
        kernel.run(f"del client\n{used} = {made[used]}\nhello = {{'role': 'user', 'content': 'Hello'}}")
        page = Page(kernel, STREAMS[name])
        variant = page.run()
    answer = "Hello! How can I help you today?"
    parts = [texts(one) for one in page.arriving(variant["number"])]
    assert all(answer.startswith("".join(part)) for part in parts)
    assert any(0 < len("".join(part)) < len(answer) for part in parts)
    assert "first token" in page.arriving(1)[0]["facts"][0][0]
    assert (texts(variant), variant["problem"], variant["pieces"]) == ([answer], "", [answer])
    assert "first token" not in str(variant["facts"])


class Stream:
    """A server that streams these texts as an answer; it then waits until it is left, unless it is to end."""

    def __init__(self, *given: str, ends: bool = False) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"
        self._texts, self._ends, self._left = given, ends, threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
            for text in self._texts:
                delta = {"index": 0, "delta": {"role": "assistant", "content": text}}
                connection.sendall(f"data: {json.dumps({**head, 'choices': [delta]})}\n\n".encode())
                time.sleep(0.4)
            if self._ends:
                connection.sendall(b"data: [DONE]\n\n")
            else:
                self._left.wait(60)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        self._server.close()


@pytest.mark.parametrize("client", ["OpenAI", "AsyncOpenAI"])
def test_a_stream_can_be_stopped_and_keeps_what_had_arrived(kernel: Kernel, client: str) -> None:
    page = Page(kernel, "for chunk in ask(stream=True): pass")
    with Stream("It is ", "sunny ", "tod") as stream:
        kernel.run(f"client = openai.{client}(base_url={stream.url!r}, max_retries=0)")
        number = page.ask("run", page.arguments)["number"]
        kernel.wait_for(lambda: "sunny" in str(page.arriving(number)), "nothing arrives")
        kernel.interrupt()
        variant = page.ended(number)
    assert (variant["problem"], variant["running"]) == ("Stopped.", False)
    assert texts(variant)[0].startswith("It is sunny")
    kernel.run("client = openai.OpenAI()")
    assert page.run()["problem"] == ""


def test_a_secret_that_arrives_in_parts_never_reaches_the_page(kernel: Kernel) -> None:
    key = example("OpenAI")
    page = Page(kernel, "for chunk in ask(stream=True): pass")
    with Stream("The key ", f"is {key[:12]}", key[12:30], key[30:], " now.", ends=True) as stream:
        kernel.run(f"client = openai.OpenAI(base_url={stream.url!r}, max_retries=0)")
        variant = page.run()
    assert "The key is " in str(page.arriving(1))
    assert texts(variant)[0].startswith("The key is [redacted")
    assert key[:12] not in str(kernel.hub_messages)


def test_the_words_in_which_an_answer_differs_from_the_original_are_known(kernel: Kernel) -> None:
    page = Page(kernel, "ask();")
    assert page.run(temperature=1)["pieces"] == ["Hello! How can I help you today?"]
    other = page.run(messages=[{"role": "user", "content": "Summarize it"}])
    assert "".join(piece if isinstance(piece, str) else piece[1] for piece in other["pieces"]) == texts(other)[0]
    assert any(not isinstance(piece, str) for piece in other["pieces"])
    assert page.ask("open")["variants"][1]["pieces"] == other["pieces"]
    assert page.run(model="gpt-4o-err401")["pieces"] == []


def test_the_code_of_a_request_is_what_edit_writes(kernel: Kernel) -> None:
    """With what the arguments cannot express, as comments."""
    kernel.run("long = 'Speak like a pirate. ' * 5")
    page = Page(kernel, f"ask(user={example('OpenAI')!r});")
    code = kernel.run("%hh edit ChatCompletion").stdout.strip()
    remark = "of the span were redacted and differ from what was sent."
    assert remark in code
    assert page.ask("code", page.arguments) == code
    changed = [{"role": "system", "content": "Speak like a pirate. " * 5}, {"role": "user", "content": "Hello"}]
    edited = page.ask("code", {**page.arguments, "messages": changed})
    assert "'content': long" in edited
    assert remark in edited


def test_anthropics_client_and_one_that_no_variable_holds_are_found(kernel: Kernel, fake: FakeLLM) -> None:
    kernel.run("class Agent: pass\nagent = Agent()\nagent.model = anthropic.Anthropic()")
    call = "agent.model.messages.create(model='claude-sonnet-4-0', max_tokens=64, system='Be brief.', "
    page = Page(kernel, f"{call}messages=[{{'role': 'user', 'content': 'Hello'}}]);")
    assert page.request["system_in"] == "system"
    assert "Sent by a client of this kernel (Anthropic) to 127.0.0.1." in page.request["client"]
    variant = page.run(system="Be kind.")
    assert texts(variant) == ["Hello! How can I help you today?"]
    assert fake.last_request[1]["system"] == "Be kind."


def test_without_a_client_it_says_what_works_instead(kernel: Kernel, fake: FakeLLM) -> None:
    kernel.run("import gc")
    page = Page(kernel, "ask(); client.close();")
    problem = page.request["problem"]
    assert problem["title"] == "This kernel has no openai client any more."
    assert problem["command"] == "%hh edit ChatCompletion"
    assert page.ask("run", page.arguments) == {"problem": problem["title"]}
    assert len(fake.log) == 1


def test_an_error_of_the_api_is_the_answer_without_the_key(kernel: Kernel, fake: FakeLLM) -> None:
    page = Page(kernel, "ask();")
    variant = page.run(model="gpt-4o-err401")
    assert variant["problem"].startswith("AuthenticationError: Error code: 401")
    assert variant["answer"] == []
    assert KEY not in str(kernel.hub_messages)
    wrong = page.run(colour="red")
    assert wrong["problem"].startswith("TypeError: ")
    assert page.run()["problem"] == ""


def test_a_busy_kernel_says_so(kernel: Kernel, fake: FakeLLM, tmp_path: Path) -> None:
    if kernel.versions[1] < 7:
        pytest.skip("needs a subshell")
    page = Page(kernel, "ask();", subshell=kernel.make_subshell())
    cell = kernel.start("from pathlib import Path\nprint('waiting')\nwhile not Path('go').exists(): time.sleep(0.01)")
    kernel.wait_for(lambda: "waiting" in cell.stdout, "the cell does not run")
    assert page.ask("run", page.arguments)["problem"].startswith("The kernel is busy.")
    (tmp_path / "go").touch()
    kernel.run("1")
    assert len(fake.log) == 1
    assert page.run()["problem"] == ""


@pytest.mark.parametrize("client", ["OpenAI", "AsyncOpenAI"])
@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_a_running_variant_can_be_stopped(kernel: Kernel, client: str, how: str) -> None:
    if how == "stop" and kernel.versions[1] < 7:
        pytest.skip("needs a subshell")
    page = Page(kernel, "ask();", subshell=kernel.make_subshell() if how == "stop" else None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        kernel.run(f"client = openai.{client}(base_url={url!r}, max_retries=0)")
        number = page.ask("run", page.arguments)["number"]
        silent.settimeout(60)
        with silent.accept()[0]:
            if how == "stop":
                assert page.ask("stop") is True
            else:
                kernel.interrupt()
            assert page.ended(number)["problem"] == "Stopped."
        assert kernel.run("client = openai.OpenAI()\n1 + 1").results == ["2"]
    assert page.run()["problem"] == ""


OWN_ERROR = """
class Own(openai.OpenAI):
    def post(self, *args, **kwargs):
        try:
            return super().post(*args, **kwargs)
        except BaseException as error:
            raise RuntimeError("cannot leave the scope") from error
"""


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_client_that_raises_its_own_error_when_interrupted_was_stopped(kernel: Kernel, interrupted: bool) -> None:
    page = Page(kernel, "ask();")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        kernel.run(f"{OWN_ERROR}client = Own(base_url={url!r}, max_retries=0)")
        number = page.ask("run", page.arguments)["number"]
        silent.settimeout(60)
        with silent.accept()[0]:
            if interrupted:
                kernel.interrupt()
                assert page.ended(number)["problem"] == "Stopped."
        if not interrupted:  # The connection was closed.
            assert page.ended(number)["problem"] == "RuntimeError: cannot leave the scope"
    kernel.run("client = openai.OpenAI()")


def test_recordings_and_the_limit_hold_for_variants(kernel: Kernel, fake: FakeLLM) -> None:
    page = Page(kernel, "%%hh_session kept --replay auto --max-calls 2\nask();")
    assert ["replayed", ""] in page.run()["facts"]
    assert len(fake.log) == 1
    assert page.run(temperature=1)["problem"] == ""
    refused = page.ask("run", {**page.arguments, "temperature": 0.9})
    assert "To raise it: %%hh_session kept --max-calls 4" in refused["problem"]
    assert len(fake.log) == 2
    only = Page(kernel, "%%hh_session kept --replay only\nask();")
    assert "not recorded" in only.run(temperature=0.1)["problem"]
    assert len(fake.log) == 2


def test_a_call_that_no_instrumentor_records_is_answered(kernel: Kernel) -> None:
    page = Page(kernel, "ask();")
    kernel.run(
        "from openinference.instrumentation.openai import OpenAIInstrumentor\nOpenAIInstrumentor().uninstrument()"
    )
    variant = page.run(temperature=1)
    assert variant["problem"] == ""
    assert texts(variant) == ["Hello! How can I help you today?"]
    assert variant["pieces"] == ["Hello! How can I help you today?"]


def test_an_image_is_sent_again_if_the_span_has_it(kernel: Kernel, fake: FakeLLM) -> None:
    """A request whose image was not kept is not made."""
    image = f"{{'type': 'image_url', 'image_url': {{'url': 'data:image/png;base64,' + {'iVBORw0KGgo' * 20!r}}}}}"
    call = "client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': "
    page = Page(kernel, f"{call}[{image}]}}]);")
    assert page.run()["problem"] == ""
    assert fake.last_request[1] == page.arguments
    assert "iVBORw0KGgo" * 20 in str(page.arguments)
    lost = [{"role": "user", "content": "[image/png, 220 B]"}]
    refused = page.ask("run", {**page.arguments, "messages": lost})["problem"]
    assert refused.startswith("An image or a file of this request was not kept")
    assert len(fake.log) == 2
