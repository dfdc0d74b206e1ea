"""Ten concurrent kernels share a home directory without waiting for locks or mixing their spans."""

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
    """One thread per kernel. At the end, closes the event loops that the kernel clients leave open."""
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
    """Kernels that are started at the same time, with one home and one spool folder."""
    env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url}
    with ExitStack() as stack, threads() as pool:

        def start(number: int) -> Kernel:
            return stack.enter_context(kernel_with(tmp_path, **env, HH_SESSION_NAME=f"kernel-{number}"))

        yield list(pool.map(start, range(KERNELS)))


def work(kernel: Kernel, number: int) -> list[str]:
    """Run some cells and return the texts of their outputs."""
    printed = []
    for cell in range(CELLS):
        ran = kernel.run(f"span('k{number}-c{cell}')")
        assert (ran.reply, ran.stderr, ran.errors) == ("ok", "", []), ran
        printed.append(ran.output.text)
    return printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_kernels_share_a_spool_folder_without_locks_or_mixed_spans(
    kernels: list[Kernel], backend: Backend, tmp_path: Path
) -> None:
    left = {f"left-{number}" for number in range(KERNELS)}
    with threads() as pool:
        outputs = list(pool.map(work, kernels, range(KERNELS)))
        for number, printed in enumerate(outputs):
            assert all(f"k{number}-c{cell}" in text for cell, text in enumerate(printed))
        assert backend.wait_for(lambda b: len(b.spans()) >= KERNELS * CELLS, timeout=60)
        sessions = {session["session_name"]: session["session_id"] for session in backend.sessions()}
        assert set(sessions) == {f"kernel-{number}" for number in range(KERNELS)}
        counted = Counter(span["name"] for span in backend.spans())
        assert set(counted.values()) == {1}, "each span once"
        for span in backend.spans():
            number = span["name"].partition("-")[0].removeprefix("k")
            assert span["attributes"]["honeyhive.session_id"] == sessions[f"kernel-{number}"]
        # No kernel shows spans of another. The survivors adopt the spans of the half that is killed.
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
