"""What other kernels left on disk: `all` leaves it alone, and it is sent or deleted only after a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel

EVALUATION = "_ = hh.evaluate(lambda datapoint: span('row'), dataset=[{'inputs': {'n': 1}}], name='%s')"


@pytest.fixture
def later(start_kernel: StartKernel, backend: Backend) -> Kernel:
    """A kernel in local mode with session "own", after one that ended with "diary" (2 spans) and "notes" (1)."""
    first = start_kernel()
    first.run("%%hh_session diary\nspan('secret'); span('plan')")
    first.run("%%hh_session notes\nspan('idea')")
    first.stop(now=True)
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("%%hh_session own\nspan('mine')")
    kernel.run("%hh login", answer=KEY)
    return kernel


def names(backend: Backend) -> list[str]:
    return sorted(span["name"] for span in backend.spans())


def listed(kernel: Kernel) -> list[str]:
    """Return the first word of each line of `%hh sessions`."""
    return [line.split()[0] for line in kernel.run("%hh sessions").stdout.splitlines()[1:]]


@pytest.mark.slow
def test_all_means_this_kernel_in_every_command(later: Kernel, backend: Backend, tmp_path: Path) -> None:
    assert "secret" not in later.run("%hh show all").output.text
    for line in ("%hh save own.jsonl", "%hh save all.jsonl all"):
        assert later.run(line).stdout.startswith("hh: 1 span saved to ")
    assert (tmp_path / "own.jsonl").read_text() == (tmp_path / "all.jsonl").read_text()
    host = backend.url.removeprefix("http://")
    assert later.run("%hh send all").stdout.splitlines() == [
        f"hh: 1 span sent to {host}.",
        "  2 sessions, 3 spans of other kernels stay here: %hh send --others",
    ]
    assert names(backend) == ["mine"]
    deleted, shown, stay = later.run("%hh clear all").stdout.splitlines()
    assert deleted.startswith("hh: 1 span deleted from ")
    assert shown == "  This kernel shows its own spans until it ends; saved notebooks stay as they are."
    assert "mine" in later.run("%hh show own").output.text
    assert stay == "  2 sessions, 3 spans of other kernels stay: %hh clear --others"
    assert {"diary", "notes"} <= set(listed(later))
    assert "secret" in later.run("%hh show diary").output.text


@pytest.mark.slow
@pytest.mark.parametrize("line", ["%hh send --others", "%hh send diary", "%hh send all --others", "%hh clear --others"])
def test_without_a_prompt_one_line_names_and_counts_them_and_says_how_to_go_on(
    later: Kernel, backend: Backend, line: str
) -> None:
    """As in a notebook that is executed without anybody to ask."""
    cell = later.run(line)
    assert cell.ename == "UsageError"
    assert cell.stderr.count("\n") == 1
    assert "diary " in cell.stderr
    assert "(2 spans)" in cell.stderr
    assert cell.stderr.endswith("Add --yes to go on.\n")
    assert backend.spans() == []
    assert {"diary", "notes", "own"} <= set(listed(later))


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["", "n", "no", "what?"])
def test_any_answer_but_yes_changes_nothing(later: Kernel, backend: Backend, answer: str) -> None:
    for line in ("%hh send all --others", "%hh clear all --others"):
        cell = later.run(line, answer=answer)
        assert len(cell.asked) == 1
        assert "nothing was changed" in cell.stderr
    assert backend.spans() == []
    assert {"diary", "notes", "own"} <= set(listed(later))


def test_after_a_yes_they_are_sent_and_can_still_be_shown_here_and_later(
    later: Kernel, backend: Backend, start_kernel: StartKernel
) -> None:
    host = backend.url.removeprefix("http://")
    cell = later.run("%hh send --others", answer="yes")
    (question,) = cell.asked
    assert question["prompt"].startswith("%hh send: 2 sessions, 3 spans of other kernels: diary ")
    assert question["prompt"].endswith(f"Send them to {host}? [y/N] ")
    assert cell.stdout == f"hh: 3 spans sent to {host}.\n"
    assert names(backend) == ["idea", "plan", "secret"]
    assert later.run("%hh send --others").stdout == "hh: nothing to send.\n"
    assert later.run("%hh send diary").stdout == "hh: nothing to send for diary.\n"
    later.run("%hh send own")
    for session, name in (("diary", "secret"), ("own", "mine")):
        shown = later.run(f"%hh show {session}").output.text
        assert name in shown
        assert shown.splitlines()[0].endswith("  sent")
    later.stop(now=True)
    third = start_kernel(HH_API_URL=backend.url)
    for session, name in (("diary", "secret"), ("own", "mine")):
        assert name in third.run(f"%hh show {session}").output.text


@pytest.mark.slow
def test_others_and_all_together_are_everything(later: Kernel, backend: Backend, tmp_path: Path) -> None:
    assert later.run("%hh save f.jsonl all --others").stdout.startswith("hh: 4 spans saved to f.jsonl.")
    assert later.run("%hh send all --others --yes").stdout.startswith("hh: 4 spans sent to ")
    assert names(backend) == ["idea", "mine", "plan", "secret"]
    assert later.run("%hh clear all --others --yes").stdout.startswith("hh: 4 spans deleted from ")
    assert listed(later) == ["own"]


@pytest.mark.slow
def test_sessions_of_a_living_kernel_are_neither_sent_nor_deleted(start_kernel: StartKernel, backend: Backend) -> None:
    living = start_kernel()
    living.run("%%hh_session theirs\nspan('theirs')")
    kernel = start_kernel(HH_API_URL=backend.url, HH_API_KEY=KEY)
    kernel.run("span('mine')")
    for line in ("%hh send all --others --yes", "%hh clear all --others --yes"):
        assert kernel.run(line).reply == "ok"
    assert names(backend) == ["mine"]
    assert "no session theirs" in kernel.run("%hh send theirs").stderr
    assert "theirs" in living.run("%hh show theirs").output.text
    assert listed(living) == ["theirs"]


@pytest.mark.slow
def test_clear_keeps_what_waits_for_the_key_of_an_earlier_kernel(start_kernel: StartKernel, backend: Backend) -> None:
    """This kernel adopts it, but it is not its own."""
    with Backend(refuse=True) as away:
        first = start_kernel(HH_API_KEY=KEY, HH_API_URL=away.url, HH_CELL_FLUSH_SECONDS="0.1")
        first.run("%%hh_session waiting\nspan('waiting')")
        first.stop(now=True)
        second = start_kernel(HH_API_KEY=KEY, HH_API_URL=away.url, HH_CELL_FLUSH_SECONDS="0.1")
        second.run("time.sleep(1)\nspan('mine')")
        assert "2 spans deleted" not in second.run("%hh clear all").stdout
        assert "waiting" in listed(second)


@pytest.mark.slow
def test_runs_of_other_kernels_are_not_sent_with_all(start_kernel: StartKernel, backend: Backend) -> None:
    first = start_kernel()
    first.run(EVALUATION % "theirs")
    first.stop(now=True)
    kernel = start_kernel()
    kernel.run(EVALUATION % "mine")
    kernel.run(f"%env HH_API_KEY={KEY}\n%env HH_API_URL={backend.url}")
    kernel.run("%hh send all")
    assert [request.body["name"] for request in backend.requests if request.path == "/v1/runs"] == ["mine"]
    assert "Add --yes to go on." in kernel.run("%hh send theirs").stderr
    assert "sent to" in kernel.run("%hh send theirs", answer="y").stdout
    created = [request.body["name"] for request in backend.requests if request.path == "/v1/runs"]
    assert created == ["mine", "theirs"]
