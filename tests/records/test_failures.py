"""Which error left the code, where it began, and what only happened to be raised near it: told from real exceptions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

import pytest

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.records.record import RecordedEvent, SpanError, SpanRecord, span_error
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import Ending, SpanTree
from hh_jupyter.tracing.span_store import span_log
from hh_jupyter.tracing.spans import exception_attributes
from tests.records.builders import START, span


@trace(event_name="inner")
def inner(message: str = "no refund") -> None:
    raise ValueError(message)


def equal_error() -> None:
    raise ValueError("from the helper")


@trace(event_name="inner")
def inner_by_helper() -> None:
    equal_error()


@contextlib.contextmanager
def step(tracer: HoneyHiveTracer) -> Iterator[None]:
    with tracer.start_span("inner"):
        yield


def reraise() -> None:
    try:
        inner()
    except ValueError as error:
        inner_ok()
        raise error  # noqa: TRY201  # What is tested.


def convert() -> None:
    try:
        inner()
    except ValueError as error:
        raise RuntimeError("converted") from error


def convert_twice() -> None:
    try:
        convert()
    except RuntimeError as error:
        raise LookupError("twice") from error


def handle_badly() -> None:
    try:
        inner()
    except ValueError:
        raise RuntimeError("while handling")  # noqa: B904  # What is tested.


def hide() -> None:
    try:
        inner()
    except ValueError:
        raise RuntimeError("hidden") from None


def raise_another() -> None:
    with contextlib.suppress(ValueError):
        inner()
    raise RuntimeError("unrelated")


def raise_an_equal_one() -> None:
    with contextlib.suppress(ValueError):
        inner()
    raise ValueError("no refund")


def raise_an_equal_one_at_the_same_line() -> None:
    with contextlib.suppress(ValueError):
        inner_by_helper()
    equal_error()


def pass_through_a_generator() -> None:
    @trace(event_name="items")
    def items() -> Iterator[int]:
        yield 1
        inner()

    list(items())


def pass_through_a_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, inner).result()


def group() -> None:
    errors = []
    for _ in range(2):
        try:
            inner()
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("both", errors)


async def task_group() -> None:
    async def fail() -> None:
        inner()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
        tasks.create_task(asyncio.sleep(60))


def retry_in_vain() -> None:
    for attempt in range(3):
        try:
            inner()
        except ValueError:
            if attempt == 2:
                raise


def retry() -> None:
    for _ in range(3):
        with contextlib.suppress(ValueError):
            inner()
    inner_ok()


@trace(event_name="inner")
def inner_ok() -> None:
    return None


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    with HoneyHiveTracer.init(test_mode=True) as made:
        yield made


def shown(tracer: HoneyHiveTracer, function: Callable[[], object], *, ended: bool = True) -> SpanTree:
    """The tree of a call in a span "outer" from code that ended with it; without `ended`, it is not known how."""
    error: Exception | None = None
    try:
        trace(event_name="outer")(function)()
    except Exception as caught:  # boundary: the tree is built from whatever the call raises.
        error = caught
    tracer.force_flush()
    records = span_log().records(session_id=tracer.session_id)
    return SpanTree.build(records, ending=ending_with(error, records) if ended else None)


def ending_with(error: Exception | None, records: Sequence[SpanRecord] = ()) -> Ending:
    ended_ns = max((record.end_ns or 0 for record in records), default=0)
    return Ending(ended_ns, described(error) if error is not None else None)


def described(error: Exception) -> SpanError | None:
    return span_error({}, [RecordedEvent("exception", 0, exception_attributes(error, str(error)))], None)


def roles(tree: SpanTree) -> list[tuple[str, str]]:
    return [(node.record.name, node.error) for node in tree.nodes]


def header(tree: SpanTree) -> list[str]:
    """The first error, where it began, and what it was raised from."""
    failure = tree.failure
    if failure is None:
        return []
    where = failure.node.record.name if failure.node is not None else "nowhere"
    what = f"{failure.error.type}: {failure.error.message}" if failure.error is not None else "?"
    return [
        f"{what} in {where}",
        *(f"{c.record.error.type} in {c.record.name}" for c in failure.causes if c.record.error),
    ]


OUTER, CAUGHT, INNER = ("outer", "uncaught"), ("inner", "caught"), ("inner", "uncaught")
PASSED = ("outer", "propagated")
NO_REFUND = "ValueError: no refund in inner"

CASES = {
    "not caught": (inner, [PASSED, INNER], [NO_REFUND]),
    "re-raised": (reraise, [PASSED, INNER, ("inner", "")], [NO_REFUND]),
    "through a generator": (pass_through_a_generator, [PASSED, ("items", "propagated"), INNER], [NO_REFUND]),
    "through a pool": (pass_through_a_pool, [PASSED, INNER], [NO_REFUND]),
    "retried in vain": (retry_in_vain, [PASSED, CAUGHT, CAUGHT, INNER], [NO_REFUND]),
    "converted": (convert, [PASSED, INNER], ["RuntimeError: converted in outer", "ValueError in inner"]),
    "converted twice": (convert_twice, [PASSED, INNER], ["LookupError: twice in outer", "ValueError in inner"]),
    "raised while handling": (handle_badly, [OUTER, CAUGHT], ["RuntimeError: while handling in outer"]),
    "raised from None": (hide, [OUTER, CAUGHT], ["RuntimeError: hidden in outer"]),
    "another one": (raise_another, [OUTER, CAUGHT], ["RuntimeError: unrelated in outer"]),
    "an equal one": (raise_an_equal_one, [OUTER, CAUGHT], ["ValueError: no refund in outer"]),
    "an equal one of the same line": (
        raise_an_equal_one_at_the_same_line,
        [OUTER, CAUGHT],
        ["ValueError: from the helper in outer"],
    ),
    "a group": (
        group,
        [PASSED, INNER, INNER],
        ["ExceptionGroup: both (2 sub-exceptions) in outer", "ValueError in inner", "ValueError in inner"],
    ),
    "a task group": (
        lambda: asyncio.run(task_group()),
        [PASSED, INNER],
        ["ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception) in outer", "ValueError in inner"],
    ),
    "retried": (retry, [("outer", ""), CAUGHT, CAUGHT, CAUGHT, ("inner", "")], []),
}


@pytest.mark.parametrize("ended", [True, False], ids=["known end", "unknown end"])
@pytest.mark.parametrize("name", CASES)
def test_the_error_that_left_is_found_and_followed_to_its_origin(
    tracer: HoneyHiveTracer, name: str, *, ended: bool
) -> None:
    """Only the same exception propagates, or one that was raised from it; a mere context does not count."""
    function, expected_roles, expected_header = CASES[name]
    tree = shown(tracer, function, ended=ended)
    assert (roles(tree), header(tree)) == (expected_roles, expected_header)


def test_a_block_of_a_context_manager_passes_the_same_error_on(tracer: HoneyHiveTracer) -> None:
    """Its traceback has the generator's frame, which that of the caller has not."""

    def call() -> None:
        with step(tracer):
            raise ValueError("no refund")

    assert roles(shown(tracer, call)) == [PASSED, INNER]


@contextlib.contextmanager
def step_of_opentelemetry(tracer: HoneyHiveTracer) -> Iterator[None]:
    with tracer.provider.get_tracer("mine").start_as_current_span("inner"):
        yield


@pytest.mark.parametrize("block", [step, step_of_opentelemetry])
def test_an_error_that_left_a_block_and_its_caller_is_not_caught(
    tracer: HoneyHiveTracer, block: Callable[[HoneyHiveTracer], contextlib.AbstractContextManager[None]]
) -> None:
    def call() -> None:
        with block(tracer):
            equal_error()

    assert roles(shown(tracer, call)) == [PASSED, INNER]


def test_spans_between_that_record_no_error_pass_it_on(tracer: HoneyHiveTracer) -> None:
    def call() -> None:
        with tracer.start_span("quiet", set_status_on_exception=False):
            inner()

    tree = shown(tracer, call)
    assert roles(tree) == [PASSED, ("quiet", ""), INNER]
    assert tree.errors == 1


def test_an_error_of_the_calling_code_is_shown_without_a_span(tracer: HoneyHiveTracer) -> None:
    """The one that it caught before is not blamed."""

    def call() -> None:
        with contextlib.suppress(ValueError):
            trace(event_name="outer")(inner)()
        raise RuntimeError("of the cell")

    with pytest.raises(RuntimeError) as raised:
        call()
    tracer.force_flush()
    records = span_log().records(session_id=tracer.session_id)
    tree = SpanTree.build(records, ending=ending_with(raised.value, records))
    assert (tree.errors, tree.caught, header(tree)) == (0, 1, ["RuntimeError: of the cell in nowhere"])
    assert tree.deepest_error is None


def test_of_equal_errors_the_calling_code_caught_all_but_the_last(tracer: HoneyHiveTracer) -> None:
    with pytest.raises(ValueError, match="no refund") as raised:
        retry_in_vain()
    tracer.force_flush()
    records = span_log().records(session_id=tracer.session_id)
    tree = SpanTree.build(records, ending=ending_with(raised.value, records))
    assert roles(tree) == [CAUGHT, CAUGHT, INNER]


def test_an_error_that_ended_a_thread_was_not_caught() -> None:
    error = SpanError("ValueError", "no", frames=("cell:1",))
    rows = [
        span(1, None, 0, 9, "outer"),
        span(2, 1, 1, 5, "thread", error=error),
        span(3, None, 6, 7, "x", error=error),
    ]
    assert roles(SpanTree.build(rows, ending=Ending(START + 10**9)))[1] == ("thread", "caught")
    tree = SpanTree.build(rows[:2], ending=Ending(START + 10**9, of_threads=(error,)))
    assert roles(tree)[1] == ("thread", "uncaught")
    assert header(tree) == ["ValueError: no in thread"]


LIMIT = SpanError("RateLimitError", "Error code: 429 - slow down", http_status=429)


@pytest.mark.parametrize(
    "below",
    [False, SpanError("HTTP 429", ""), SpanError("RateLimitError", "")],
    ids=["no text", "status", "type"],
)
def test_the_most_telling_error_of_one_call_is_shown(below: SpanError) -> None:
    """Requests below a model call often have only a status, and some of them a request of another library below."""
    rows = [
        span(1, None, 0, 20, "agent", error=LIMIT),
        span(2, 1, 1, 19, "chat", kind="llm", error=LIMIT),
        span(3, 2, 2, 5, "POST", kind="http", error=below),
        span(4, 2, 6, 9, "POST", kind="http", error=below),
        span(5, 4, 7, 8, "POST", kind="http", error=below),
    ]
    tree = SpanTree.build(rows)
    assert header(tree) == ["RateLimitError: Error code: 429 - slow down in chat"]
    assert [node.error for node in tree.nodes] == ["propagated", "uncaught", "caught", "propagated", "propagated"]
    assert tree.errors == 1


def test_of_several_failed_roots_the_described_one_is_shown() -> None:
    rows = [
        span(1, None, 0, 9, "chat", kind="llm", error=LIMIT),
        span(1, None, 1, 8, "POST", kind="http", trace=2, error=False),
    ]
    assert header(SpanTree.build(rows)) == ["RateLimitError: Error code: 429 - slow down in chat"]
    ending = Ending(START + 10**9, SpanError("RateLimitError", "Error code: 429 - slow down", frames=("cell:1",)))
    assert header(SpanTree.build(rows, ending=ending)) == ["RateLimitError: Error code: 429 - slow down in chat"]


@pytest.mark.parametrize(
    ("above", "role"),
    [
        (SpanError("Error", "ValueError('no refund')"), "uncaught"),
        (SpanError("ToolError", "the tool failed: ValueError: no refund"), "uncaught"),
        (SpanError("ValueError", ""), "uncaught"),
        (SpanError("ToolError", "the tool failed"), "caught"),
        (SpanError("ReadTimeout", "no refundable"), "caught"),
    ],
)
def test_errors_without_a_traceback_are_compared_by_their_texts(above: SpanError, role: str) -> None:
    rows = [
        span(1, None, 0, 9, "outer", error=above),
        span(2, 1, 1, 5, "tool", error=SpanError("ValueError", "no refund")),
    ]
    assert roles(SpanTree.build(rows))[1] == ("tool", role)


def test_a_traceback_above_explains_errors_below_that_have_none() -> None:
    above = SpanError("APIError", "failed", frames=("a:1",), causes=(("ConnectError", "refused"),))
    rows = [
        span(1, None, 0, 9, "outer", error=above),
        span(2, 1, 1, 8, "chat", kind="llm", error=SpanError("APIError", "failed")),
        span(3, 2, 2, 7, "POST", kind="http", error=SpanError("ConnectError", "refused", frames=("b:1",))),
    ]
    assert header(SpanTree.build(rows)) == ["APIError: failed in chat", "ConnectError in POST"]


def test_a_chain_of_causes_has_no_limit() -> None:
    def error(number: int) -> SpanError:
        return SpanError("E", str(number), frames=("a:1",), causes=(("E", str(number + 1)),))

    rows = [span(n, n - 1 or None, n / 1e3, 1e4 - n / 1e3, error=error(n)) for n in range(1, 3_001)]
    tree = SpanTree.build(rows)
    assert (tree.errors, tree.nodes[-1].error) == (1, "uncaught")


def test_cancelled_spans_are_counted_once_and_are_no_errors(tracer: HoneyHiveTracer) -> None:
    @trace(event_name="slow")
    async def slow() -> None:
        await trace(event_name="sleep")(asyncio.sleep)(60)

    async def call() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(slow(), 0.01)

    tree = shown(tracer, lambda: asyncio.run(call()))
    assert roles(tree) == [("outer", ""), ("slow", "cancelled"), ("sleep", "cancelled")]
    assert (tree.cancelled, tree.errors, tree.caught, tree.failure) == (1, 0, 0, None)
    assert summarize([node.record for node in tree.nodes]).errors == 0
    assert not tree.stopped
    assert SpanTree.build([tree.nodes[1].record], ending=Ending(START)).stopped


def test_cancelled_repeats_are_not_folded() -> None:
    rows = [span(n, None, n, n + 1, "call", trace=n) for n in range(1, 9)]
    rows[5] = replace(rows[5], status="cancelled")
    assert [len(row.items) for row in SpanTree.build(rows).rows()] == [5, 0, 0, 0]
