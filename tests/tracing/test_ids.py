"""Ids are random even if the program seeds `random`, and unique across processes and threads."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterable

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.tracing import context

FORKS = """
import os, sys
from hh_jupyter.tracing.context import DRAWN_AT_ONCE, UnseededIdGenerator, random_uuid

def say():
    for _ in range(2 * DRAWN_AT_ONCE):
        print(random_uuid(), UnseededIdGenerator().generate_span_id(), UnseededIdGenerator().generate_trace_id())
    sys.stdout.flush()

random_uuid()  # So that a fork finds some that were drawn and not used yet.
for _ in range(2):
    child = os.fork()
    if child == 0:
        say()
        os._exit(0)
    os.waitpid(child, 0)
say()
"""


def test_a_session_is_a_random_uuid(local: HoneyHiveTracer) -> None:
    made = uuid.UUID(local.create_session("chat"))
    assert (made.version, made.variant) == (4, uuid.RFC_4122)


def test_seeding_random_does_not_make_ids_repeat() -> None:
    made = set()
    for _ in range(3):
        random.seed(42)
        made |= {context.random_uuid(), str(context.UnseededIdGenerator().generate_span_id())}
    assert len(made) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_create_ids_of_their_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=True)
    made = done.stdout.split()
    assert len(made) == 3 * 3 * 2 * context.DRAWN_AT_ONCE
    assert len(set(made)) == len(made)


def test_new_random_bytes_are_drawn_if_another_thread_took_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raided(list[bytes]):
        raids = 2

        def extend(self, drawn: Iterable[bytes]) -> None:
            super().extend(drawn)
            if self.raids:
                self.raids -= 1
                self.clear()

    raided = Raided()
    monkeypatch.setattr(context, "_drawn", raided)
    assert context.random_uuid() != context.random_uuid()
    assert raided.raids == 0
