"""Ten kernels at once on one home directory: nobody waits for a lock, and nobody gets what is another's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from jupyter_core.utils import ensure_event_loop

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY
from tests.kernel.driver import Kernel, kernel_with

KERNELS, CELLS = 10, 5


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """One for each kernel. Their event loops, which the kernels' clients make and leave open, are closed in the end."""
    with ThreadPoolExecutor(KERNELS) as pool:
        all_at_once = threading.Barrier(KERNELS)

        def close(_: int) -> None:
            all_at_once.wait(60)
            ensure_event_loop().close()

        try:
            yield pool
        finally:
            list(pool.map(close, range(KERNELS)))


@pytest.fixture
def kernels(tmp_path: Path, backend: Backend) -> Iterator[list[Kernel]]:
    """All started at the same time, with one home and one place for what is kept on disk."""
    env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url}
    with ExitStack() as stack, threads() as pool:

        def start(number: int) -> Kernel:
            return stack.enter_context(kernel_with(tmp_path, **env, HH_SESSION_NAME=f"kernel-{number}"))

        yield list(pool.map(start, range(KERNELS)))


def work(kernel: Kernel, number: int) -> list[str]:
    """Run some cells; what their outputs say."""
    said = []
    for cell in range(CELLS):
        ran = kernel.run(f"span('k{number}-c{cell}')")
        assert (ran.reply, ran.stderr, ran.errors) == ("ok", "", []), ran
        said.append(ran.output.text)
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_kernels_share_a_home_without_a_lock_or_cross_talk(
    kernels: list[Kernel], backend: Backend, tmp_path: Path
) -> None:
    left = {f"left-{number}" for number in range(KERNELS)}
    with threads() as pool:
        outputs = list(pool.map(work, kernels, range(KERNELS)))
        for number, said in enumerate(outputs):
            assert all(f"k{number}-c{cell}" in text for cell, text in enumerate(said))
        assert backend.wait_for(lambda b: len(b.spans()) >= KERNELS * CELLS, timeout=60)
        sessions = {session["session_name"]: session["session_id"] for session in backend.sessions()}
        assert set(sessions) == {f"kernel-{number}" for number in range(KERNELS)}
        counted = Counter(span["name"] for span in backend.spans())
        assert set(counted.values()) == {1}, "each span once"
        for span in backend.spans():
            number = span["name"].partition("-")[0].removeprefix("k")
            assert span["attributes"]["honeyhive.session_id"] == sessions[f"kernel-{number}"]
        # What each shows of the others is nothing; what half of them leave behind when they are killed, others adopt.
        backend.close()
        list(pool.map(lambda pair: pair[0].run(f"span('left-{pair[1]}')"), zip(kernels, range(KERNELS), strict=True)))
        list(pool.map(lambda kernel: kernel.stop(now=True), kernels[:5]))
        listed = list(pool.map(lambda kernel: kernel.run("%hh sessions"), kernels[5:]))
        assert all((cell.reply, cell.stderr) == ("ok", "") for cell in listed)
        backend.listen()
        list(pool.map(lambda kernel: kernel.run("span('back')\n%hh send"), kernels[5:]))
    with kernel_with(tmp_path, HH_API_KEY=KEY, HH_API_URL=backend.url) as heir:
        heir.run("span('heir')")
        assert backend.wait_for(
            lambda b: {f"left-{number}" for number in range(KERNELS)} <= {span["name"] for span in b.spans()},
            timeout=60,
        )
    counted = Counter(span["name"] for span in backend.spans() if span["name"] in left)
    assert set(counted.values()) == {1}
