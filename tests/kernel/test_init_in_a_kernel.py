"""`HoneyHiveTracer.init(...)` in a kernel that loaded the extension: one tracer, configured, not a second one."""

from __future__ import annotations

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.driver import Kernel

INIT = "tracer = hh.HoneyHiveTracer.init(api_key='a-key-of-the-test', server_url={url!r}, session_name='mine')"


def test_init_gives_the_kernels_tracer_its_key_and_the_spans_follow(fresh: Kernel, backend: Backend) -> None:
    assert fresh.run("span('before')").output.text.splitlines()[0].endswith("local only")
    fresh.run(INIT.format(url=backend.url))
    shown = fresh.run("span('after'); print(tracer is hh.get_tracer(), tracer.session_name)")
    assert shown.stdout.strip() == "True mine"
    assert shown.output.text.splitlines()[0].endswith("sent")
    assert [span["name"] for span in backend.spans()] == ["after"], "local spans never leave unasked"
    assert [session["session_name"] for session in backend.sessions()] == ["mine"]


@pytest.mark.slow
def test_the_same_init_again_changes_nothing_and_another_key_makes_another_tracer(
    fresh: Kernel, backend: Backend
) -> None:
    with Backend() as other:
        fresh.run(INIT.format(url=backend.url))
        fresh.run("first, session = tracer, tracer.session_id; span('in use')")
        fresh.run(INIT.format(url=backend.url))
        fresh.run(f"second = hh.HoneyHiveTracer.init(api_key='another-key', server_url={other.url!r})")
        again = fresh.run("print(tracer is first, tracer.session_id == session, second is first)")
        assert again.stdout.strip() == "True True False"
        both = fresh.run("with first.start_span('one'), second.start_span('two'): pass")
        assert both.output.text.splitlines()[0].endswith("sent"), "of both tracers"
        assert [span["name"] for span in backend.spans()] == ["in use", "one"]
        assert [span["name"] for span in other.spans()] == ["two"]


@pytest.mark.slow
def test_a_wrong_setting_is_one_line(fresh: Kernel) -> None:
    failed = fresh.run("hh.HoneyHiveTracer.init(api_key=3)")
    ((name, message),) = failed.errors
    assert name == "SettingTypeError"
    assert "api_key must be text" in message
    assert "\n" not in message


def test_a_tracer_of_its_own_is_named_after_the_notebook_and_not_after_a_made_up_file(fresh: Kernel) -> None:
    named = fresh.run("print(hh.HoneyHiveTracer.init(multi_instance=True).session_name)")
    assert named.stdout.strip() == "notebook"


def test_a_key_that_comes_later_registers_the_sessions_of_before(fresh: Kernel, backend: Backend) -> None:
    """Also without a new session name, and for a session that a magic made."""
    fresh.run("%hh_session chosen")
    fresh.run(f"tracer = hh.HoneyHiveTracer.init(api_key='a-key-of-the-test', server_url={backend.url!r})")
    fresh.run("span('one')")
    (session,) = backend.sessions()
    assert session["session_name"] == "chosen"
    assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [session["session_id"]]


@pytest.mark.slow
def test_a_wrong_key_can_be_corrected(fresh: Kernel) -> None:
    """Pending spans are sent with the valid key."""
    with Backend(statuses={"/session/start": [401]}) as refusing:
        init = f"tracer = hh.HoneyHiveTracer.init(api_key='{{}}', server_url={refusing.url!r})"
        fresh.run(init.format("a-wrong-key"))
        assert "not sent" in fresh.run("span('refused')").output.text
        fresh.run(init.format("the-right-key"))
        assert fresh.run("span('accepted'); print(tracer is hh.get_tracer())").stdout.strip() == "True"
        assert refusing.wait_for(lambda backend: len(backend.spans()) == 2)
        assert sorted(span["name"] for span in refusing.spans()) == ["accepted", "refused"]
        accepted = [request for request in refusing.requests if request.accepted]
        assert {request.headers["authorization"] for request in accepted} == {"Bearer the-right-key"}


@pytest.mark.slow
def test_init_without_a_key_afterwards_keeps_the_one_in_use(fresh: Kernel, backend: Backend) -> None:
    fresh.run(INIT.format(url=backend.url))
    fresh.run("span('one'); again = hh.HoneyHiveTracer.init()")
    assert fresh.run("print(again is tracer, tracer.destination is not None)").stdout.strip() == "True True"


@pytest.mark.slow
def test_what_a_magic_sets_beats_what_init_was_given(fresh: Kernel) -> None:
    fresh.run("hh.HoneyHiveTracer.init(display='line')")
    assert fresh.run("%hh display tree").stdout.strip() == "hh: display tree"


def test_what_init_sets_for_the_display_outlasts_a_reload_and_a_tracer_of_its_own(fresh: Kernel) -> None:
    fresh.run("hh.HoneyHiveTracer.init(display='off')")
    assert fresh.run("span('hidden');").kinds == []
    fresh.run("hh.HoneyHiveTracer.init(multi_instance=True, display='tree', display_rows=1)")
    fresh.run("%reload_ext hh_jupyter")
    assert fresh.run("span('hidden');").kinds == []
    assert "display_rows" not in fresh.run("%hh").stdout


def test_what_a_script_set_for_the_display_holds_in_a_notebook_that_loads_later(fresh: Kernel) -> None:
    fresh.run("%unload_ext hh_jupyter")
    fresh.run("own = hh.HoneyHiveTracer.init(display='off')")
    fresh.run("%load_ext hh_jupyter")
    assert fresh.run("with own.start_span('hidden'): pass").kinds == []
    assert fresh.run("%hh").stdout.count("argument") == 1


@pytest.mark.slow
def test_a_notebook_keeps_more_rows_than_a_script(fresh: Kernel) -> None:
    many = fresh.run("for _ in range(3_000): span('x')")
    assert "3,000 spans" in many.output.text
