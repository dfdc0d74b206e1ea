"""Kernels for tests: local mode, or sending to the stand-in backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.driver import Kernel, kernel_with

KEY = "hh_test_key_of_no_account"
StartKernel = Callable[..., Kernel]


@pytest.fixture
def start_kernel(tmp_path: Path) -> Iterator[StartKernel]:
    """Start a kernel with the extension loaded; keyword arguments are environment variables."""
    with ExitStack() as stack:
        yield lambda **env: stack.enter_context(kernel_with(tmp_path, **env))


@pytest.fixture
def fresh(start_kernel: StartKernel) -> Kernel:
    """A kernel in local mode, for one test."""
    return start_kernel()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in local mode that the tests of a module share: each uses names and cells of its own."""
    with kernel_with(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel


@pytest.fixture
def sending(start_kernel: StartKernel, backend: Backend) -> Kernel:
    """A kernel that sends to `backend`."""
    return start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_SESSION_NAME="test-session")
