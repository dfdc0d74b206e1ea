"""Two runs beside each other, as the backend compares them or counted here: `compare_runs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.delivery.local_runs import find_run
from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.client import HoneyHive, asked, local_spool
from hh_jupyter.experiments.deltas import config_changes, metric_deltas
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.run import get_run_result

COUNTS: Final = ("found_count", "improved_count", "degraded_count", "same_count")
LISTS: Final = ("improved", "degraded", "same", "old_values", "new_values")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparisonResult:
    """What changed from one run to another. In a notebook it shows itself as a table.

    Attributes:
        common_datapoints: how many data points are in both runs; only these are compared.
        new_only_datapoints, old_only_datapoints: how many are in one run only; 0 where the backend compared, which does
            not tell.
        metric_deltas: by metric: `old_aggregate`, `new_aggregate`, how many data points `improved_count`,
            `degraded_count`, `same_count` and `found_count` are, their ids under `improved`, `degraded`, `same`, and
            `old_values`, `new_values`. Which direction is better, the backend knows; counted here, more is better,
            unless the metric was named.
        config_changes: by key of `config`, (old, new), where the runs' results are known here.
        new, old: the results, where they are known here.
        lower_is_better: metrics of which less is better.
    """

    new_run_id: str
    old_run_id: str
    common_datapoints: int = 0
    new_only_datapoints: int = 0
    old_only_datapoints: int = 0
    metric_deltas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config_changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    new: ExperimentResultSummary | None = field(default=None, repr=False)
    old: ExperimentResultSummary | None = field(default=None, repr=False)
    lower_is_better: Sequence[str] = ()

    def get_metric_delta(self, metric_name: str) -> Mapping[str, Any] | None:
        """The entry of one metric, if it is in both runs."""
        return self.metric_deltas.get(metric_name)

    def list_improved_metrics(self) -> list[str]:
        """Names of metrics that are better on some data point."""
        return [name for name, delta in self.metric_deltas.items() if delta["improved_count"] > 0]

    def list_degraded_metrics(self) -> list[str]:
        """Names of metrics that are worse on some data point; one may be in both lists."""
        return [name for name, delta in self.metric_deltas.items() if delta["degraded_count"] > 0]

    def print_table(self) -> None:
        """Print metrics, config and data points that changed to standard output."""
        from hh_jupyter.experiments.comparison_views import comparison_text

        sys.stdout.write(comparison_text(self, sys.stdout))

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        from hh_jupyter.experiments.comparison_views import comparison_html

        found = {"text/plain": repr(self), "text/html": comparison_html(self)}
        return found, {"hh_jupyter": {"run_id": self.new_run_id}}  # By which `strip` knows it.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        from hh_jupyter.experiments.comparison_views import comparison_text

        return comparison_text(self).rstrip("\n")


def compare_runs(
    client: HoneyHive | ExperimentResultSummary | str | None = None,
    new_run_id: ExperimentResultSummary | str | None = None,
    old_run_id: ExperimentResultSummary | str | None = None,
    project_id: str | None = None,
    aggregate_function: str = "average",
    *,
    api_key: str | None = None,
    server_url: str | None = None,
) -> RunComparisonResult:
    """Compare a run with an older one: `compare_runs(new, old)`, or `compare_runs(client, new, old)`.

    Runs are named by id, or given as results. Two ids that the backend knows are compared by it; where one is a
    result, or a run that was made in local mode, both are compared here.

    Example:
        >>> compare_runs(new.run_id, old.run_id).list_degraded_metrics()  # doctest: +SKIP

    Args:
        client: a `HoneyHive`; may be left out.
        project_id: of no effect; the key decides.
        aggregate_function: what makes one number of a metric's values: average, sum, min, max.
        api_key, server_url: given none, those of the current tracer, else the environment's.

    Raises:
        SettingError: there is no API key, or an id is missing.
        BackendError: no such run, or no usable answer.
    """
    given = [run for run in (client, new_run_id, old_run_id) if run is not None and not isinstance(run, HoneyHive)]
    if len(given) == 2 and any(_is_here(run) for run in given):
        asker = client if isinstance(client, HoneyHive) else None
        new, old = (_result(run, asker, aggregate_function, api_key, server_url) for run in given)
        return compared(new, old)
    ids = [_id_only(run) for run in (new_run_id, old_run_id)]
    first = client if isinstance(client, HoneyHive) else _id_only(client)
    settings, (new_id, old_id) = asked("compare_runs", first, tuple(ids), api_key=api_key, server_url=server_url)
    with BackendClient(settings) as backend:
        return _comparison(new_id, old_id, backend.run_comparison(new_id, old_id, aggregate_function))


def compared(
    new: ExperimentResultSummary, old: ExperimentResultSummary | str, lower_is_better: Sequence[str] = ()
) -> RunComparisonResult:
    """What changed, counted here from the data points of both."""
    if isinstance(lower_is_better, str):
        raise SettingTypeError(f"compare: lower_is_better must be a list of metrics; got {lower_is_better!r:.60}.")
    _check_names(lower_is_better, new)
    before = old if isinstance(old, ExperimentResultSummary) else get_run_result(old)
    ids = {row.datapoint_id for row in new.rows}, {row.datapoint_id for row in before.rows}
    return RunComparisonResult(
        new_run_id=new.run_id,
        old_run_id=before.run_id,
        common_datapoints=len(ids[0] & ids[1]),
        new_only_datapoints=len(ids[0] - ids[1]),
        old_only_datapoints=len(ids[1] - ids[0]),
        metric_deltas=metric_deltas(new, before, lower_is_better),
        config_changes=config_changes(new.config, before.config),
        new=new,
        old=before,
        lower_is_better=tuple(lower_is_better),
    )


def _check_names(names: Sequence[str], result: ExperimentResultSummary) -> None:
    from difflib import get_close_matches

    known = dict.fromkeys(name for row in result.rows for name in row.metrics)
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(known) or 'none'}."
            raise SettingError(f"compare: lower_is_better names {name!r:.60}, which is no metric of the run.{hint}")


def _is_here(run: Any) -> bool:
    return isinstance(run, ExperimentResultSummary) or find_run(str(run), local_spool()) is not None


def _result(
    run: Any, client: HoneyHive | None, aggregate_function: str, api_key: str | None, server_url: str | None
) -> ExperimentResultSummary:
    if isinstance(run, ExperimentResultSummary):
        return run
    return get_run_result(
        client, str(run), aggregate_function=aggregate_function, api_key=api_key, server_url=server_url
    )


def _id_only(run: ExperimentResultSummary | HoneyHive | str | None) -> str | None:
    if isinstance(run, ExperimentResultSummary):
        return run.run_id
    return None if run is None or isinstance(run, HoneyHive) else str(run)


def _comparison(new: str, old: str, answer: Mapping[str, Any]) -> RunComparisonResult:
    metrics = [item for item in answer.get("metrics") or () if item.get("metric_name")]
    return RunComparisonResult(
        new_run_id=new,
        old_run_id=old,
        common_datapoints=len(answer.get("commonDatapoints") or ()),
        metric_deltas={str(item["metric_name"]): _delta(item) for item in metrics},
    )


def _delta(item: Mapping[str, Any]) -> dict[str, Any]:
    """One metric; what the answer leaves out is none."""
    return {
        "old_aggregate": item.get("old_aggregate"),
        "new_aggregate": item.get("new_aggregate"),
        **{name: item.get(name) or 0 for name in COUNTS},
        **{name: item.get(name) or [] for name in LISTS},
    }
