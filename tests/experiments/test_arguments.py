"""Arguments of `evaluate`: mistakes are named, and an evaluator gets as many arguments as it has parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, ROWS, double, run

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
ROW = {"inputs": "I", "ground_truth": "T"}


def by_name(outputs: Any, ground_truth: Any = "none") -> str:
    return f"{outputs}{ground_truth}"


def first_only(answer: Any) -> str:
    return str(answer)


def first_two(answer: Any, question: Any, /) -> str:
    return f"{answer}{question}"


def two(outputs: Any, inputs: Any) -> str:
    return f"{outputs}{inputs}"


def swapped(inputs: Any, outputs: Any) -> str:
    return f"{outputs}{inputs}"


def keyword(outputs: Any, *, ground_truth: Any = "none") -> str:
    return f"{outputs}{ground_truth}"


def keywords(outputs: Any, **more: Any) -> str:
    return "".join([outputs, *more.values()])


def other_names(a: Any, b: Any, c: Any = "none") -> str:
    return f"{a}{b}{c}"


def everything(*given: Any) -> str:
    return "".join(given)


class Judge:
    def __call__(self, outputs: Any, inputs: Any) -> str:
        return f"{outputs}{inputs}"


@pytest.mark.parametrize(
    ("evaluator", "with_truth", "without"),
    [
        (by_name, "OT", "Onone"),
        (first_only, "O", "O"),
        (first_two, "OI", "OI"),
        (two, "OI", "OI"),
        (swapped, "OI", "OI"),
        (keyword, "OT", "Onone"),
        (keywords, "OIT", "OI"),
        (other_names, "OIT", "OInone"),
        (everything, "OIT", "OI"),
        (Judge(), "OI", "OI"),
        (Judge().__call__, "OI", "OI"),
        (functools.partial(other_names, "x"), "xOI", "xOI"),
        (hh.evaluator(two), "OI", "OI"),
        (len, 1, 1),
    ],
)
def test_an_evaluator_gets_as_many_arguments_as_it_has_parameters(
    evaluator: Callable[..., Any], with_truth: Any, without: Any
) -> None:
    result = run(None, lambda datapoint: "O", [ROW, {"inputs": "I"}], evaluators=[evaluator])
    assert not result.errors
    assert [point.metrics[0]["value"] for point in result.datapoints] == [with_truth, without]


def test_an_evaluator_that_requires_ground_truth_fails_on_a_datapoint_without_it() -> None:
    def needs(outputs: Any, ground_truth: Any) -> bool:
        return bool(outputs == ground_truth)

    result = run(None, lambda datapoint: "T", [ROW, {"inputs": "I"}], evaluators=[needs])
    (error,) = result.errors
    assert (error.datapoint_id, "ground_truth" in error.error) == (result.datapoints[1].datapoint_id, True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "evaluate: the dataset is empty; nothing to run."),
        (
            [*ROWS, {}],
            "evaluate: dataset: 1 of 4 rows have no 'inputs'; their evaluators and sessions get none.",
        ),
        (
            [{"inputs": 1, "ground_truths": 2}] * 2,
            "evaluate: dataset: key 'ground_truths' is not used; did you mean 'ground_truth'?",
        ),
    ],
)
def test_all_problems_of_a_dataset_are_one_warning(rows: Any, message: str, caplog: pytest.LogCaptureFixture) -> None:
    run(None, lambda datapoint: 1, rows)
    assert caplog.messages == [message]


def test_a_complete_dataset_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    run(None, double, [{**row, "input": 7, "datapoint_id": "x"} for row in ROWS])
    assert not caplog.messages


def test_an_unknown_aggregate_function_is_sent_to_the_backend_but_an_error_in_local_mode(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(hh.SettingError, match=r"one of average, sum, min, max; got 'median'"):
        run(None, double, aggregate_function="median")
    with pytest.raises(hh.SettingTypeError, match=r"aggregate_function must be one of .*; got 5"):
        run(backend, double, aggregate_function=5)
    assert backend.requests == []
    run(backend, double, aggregate_function="median")
    assert [text for text in caplog.messages if "median" in text]
    assert backend.requests[-1].query == {"aggregate_function": "median"}


@pytest.mark.parametrize("evaluators", [SECRET, double, iter([double]), {"exact": double}])
def test_evaluators_must_be_a_list_of_functions(evaluators: Any) -> None:
    with pytest.raises(hh.SettingTypeError, match="evaluators must be a list of functions") as caught:
        run(None, double, evaluators=evaluators)
    assert "abcdefgh" not in str(caught.value)


def test_an_api_key_passed_as_an_id_is_redacted_in_the_error(backend: Backend) -> None:
    place = {"api_key": KEY, "server_url": backend.url}
    with pytest.raises(hh.SettingError) as no_dataset:
        hh.evaluate(double, dataset_id=SECRET, **place)  # type: ignore[arg-type]
    with pytest.raises(hh.SettingError) as too_many:
        hh.get_run_result(SECRET, "run", **place)
    assert "abcdefgh" not in f"{no_dataset.value}{too_many.value}"


def test_without_printed_results_one_warning_counts_failed_datapoints(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(datapoint: dict[str, Any]) -> int:
        return 1 // int(datapoint["inputs"]["n"] - 1)

    run(None, fails)
    assert caplog.messages == ["evaluate: 1 of 3 data points failed; see result.errors"]
    run(None, fails, print_results=True)
    assert len(caplog.messages) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_result_is_computed_locally_if_the_backend_has_not_scored_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with Backend() as backend:
        result = run(backend, double)
        assert (len(result.passed), len(result.datapoints), result.status) == (3, 3, "completed")
        assert "the backend has not computed results for run" in caplog.text
        read = hh.get_run_result(result.run_id, api_key=KEY, server_url=backend.url)
    assert repr(read).startswith("✓ test run  0 rows") or repr(read).startswith("✓ run ")
    with Backend(passed=("a",), failed=("b", "c")) as backend:
        scored = run(backend, double)
    assert "2 failed" in repr(scored).splitlines()[0]


class Named:
    """An object in place of a function, as other libraries have them."""

    def __call__(self, outputs: Any) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"evaluators": [double, Exception("x")]},
            "evaluators must be a list of functions; evaluators[1] is Exception('x'). Wrap it in a function ",
        ),
        ({"evaluators": [Named]}, "evaluator Named is a class; pass an object of it, Named()."),
        ({"instrumentors": 5}, "instrumentors must be a list of classes of instrumentors; got 5."),
        (
            {"instrumentors": [Exception("x")]},
            "instrumentors must be a list of classes of instrumentors; instrumentors[0] is Exception('x'). Pass",
        ),
        ({"name": 5}, "name must be a text; got int."),
        ({"run_id": 5}, "run_id must be a text; got int."),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_with_what_to_pass(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(hh.SettingTypeError) as caught:
        run(None, double, **arguments)
    assert str(caught.value).startswith(f"evaluate: {message}")


def test_a_parameter_spans_that_has_no_name_for_callers_gets_the_value_at_its_place() -> None:
    result = run(None, lambda datapoint: "O", [ROW], evaluators=[lambda spans, /: spans])
    assert result.rows[0].metrics == {"<lambda>": "O"}


def test_the_warning_counts_rows_of_one_id_each_and_no_row_for_a_dataset_that_ends_early(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(datapoint: dict[str, Any]) -> None:
        raise ValueError

    def two_rows() -> Iterator[dict[str, Any]]:
        yield from ROWS[:2]
        raise ValueError("no more")

    run(None, fails, [{"id": "same", "inputs": {}}] * 4)
    run(None, double, two_rows())
    assert caplog.messages == [
        "evaluate: 4 of 4 data points failed; see result.errors",
        "evaluate: the dataset ended with ValueError: no more; the rows before it have run",
    ]


def test_a_generator_is_no_function_to_evaluate() -> None:
    """Its output would be the generator itself, before anything of it has run."""

    def stream(datapoint: dict[str, Any]) -> Iterator[str]:
        yield "a"

    async def streams(datapoint: dict[str, Any]) -> Any:
        yield "a"

    for function in (stream, streams, hh.trace(stream)):
        with pytest.raises(hh.SettingTypeError, match=r"evaluate: function streams? is a generator; it must return"):
            run(None, function)
