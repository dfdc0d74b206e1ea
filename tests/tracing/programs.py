"""Random programs of nested sessions, spans, tasks, threads, generators and exceptions, as data."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

Body = tuple["Step", ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a program: what it is, and what happens inside."""

    kind: str
    bodies: tuple[Body, ...] = ()


LEAVES = ("span", "new session", "set baggage", "pause", "fail")
BLOCKS = (
    "with_session",
    "async with_session",
    "start_span",
    "trace",
    "otel span",
    "enrich_span_context",
    "headers",
    "catch",
    "bare thread",
    "thread with context",
)
ASYNC_BLOCKS = (
    "with_session",
    "async with_session",
    "start_span",
    "otel span",
    "enrich_span_context",
    "headers",
    "catch",
    "coroutine",
    "task",
)
GENERATORS = ("finished", "closed", "collected")
TRACED = ("traced", "plain")

_leaf = st.sampled_from([Step(kind) for kind in LEAVES])


def _bodies(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Body]:
    return st.lists(inner, max_size=4).map(tuple)


def _sync(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    block = st.builds(lambda kind, body: Step(kind, (body,)), st.sampled_from(BLOCKS), _bodies(inner))
    iteration = st.builds(
        lambda traced, end, bodies: Step(f"{traced} generator {end}", bodies),
        st.sampled_from(TRACED),
        st.sampled_from(GENERATORS),
        st.tuples(_bodies(inner), _bodies(inner)),
    )
    return block | iteration


SYNC_STEPS = st.recursive(_leaf, _sync, max_leaves=12)


def _mixed(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    block = st.builds(
        lambda kind, body: Step(kind, (body,)),
        st.sampled_from(ASYNC_BLOCKS),
        _bodies(inner),
    )
    gather = st.builds(lambda bodies: Step("gather", tuple(bodies)), st.lists(_bodies(inner), min_size=2, max_size=3))
    to_thread = st.builds(lambda body: Step("to_thread", (body,)), _bodies(SYNC_STEPS))
    iteration = st.builds(
        lambda traced, end, bodies: Step(f"{traced} async generator {end}", bodies),
        st.sampled_from(TRACED),
        st.sampled_from(GENERATORS[:2]),  # One that is collected is closed by a task of the event loop's own.
        st.tuples(_bodies(inner), _bodies(inner)),
    )
    return block | gather | to_thread | iteration


PROGRAMS: st.SearchStrategy[Body] = st.lists(st.recursive(_leaf | SYNC_STEPS, _mixed, max_leaves=12), max_size=5).map(
    tuple
)
