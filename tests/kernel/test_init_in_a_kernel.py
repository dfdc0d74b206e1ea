"""`HoneyHiveTracer.init(...)` in a kernel that loaded the extension: one tracer, configured, not a second one."""

from __future__ import annotations

from tests.backend import Backend
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


def test_the_same_init_again_changes_nothing_and_another_key_makes_another_tracer(
    fresh: Kernel, backend: Backend
) -> None:
    with Backend() as other:
        fresh.run(INIT.format(url=backend.url))
        fresh.run("first, session = tracer, tracer.session_id")
        fresh.run(INIT.format(url=backend.url))
        fresh.run(f"second = hh.HoneyHiveTracer.init(api_key='another-key', server_url={other.url!r})")
        again = fresh.run("print(tracer is first, tracer.session_id == session, second is first)")
        assert again.stdout.strip() == "True True False"
        both = fresh.run("with first.start_span('one'), second.start_span('two'): pass")
        assert both.output.text.splitlines()[0].endswith("sent"), "of both tracers"
        assert [span["name"] for span in backend.spans()] == ["one"]
        assert [span["name"] for span in other.spans()] == ["two"]


def test_a_wrong_setting_is_one_line(fresh: Kernel) -> None:
    failed = fresh.run("hh.HoneyHiveTracer.init(api_key=3)")
    ((name, message),) = failed.errors
    assert name == "SettingTypeError"
    assert "api_key must be text" in message
    assert "\n" not in message


def test_a_tracer_of_its_own_is_named_after_the_notebook_and_not_after_a_made_up_file(fresh: Kernel) -> None:
    named = fresh.run("print(hh.HoneyHiveTracer.init(multi_instance=True).session_name)")
    assert named.stdout.strip() == "notebook"
