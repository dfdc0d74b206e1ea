"""Two runs beside each other, as the backend compares them: `compare_runs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.experiments.client import HoneyHive, asked

COUNTS: Final = ("found_count", "improved_count", "degraded_count", "same_count")
LISTS: Final = ("improved", "degraded", "same", "old_values", "new_values")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparisonResult:
    """What changed from one run to another.

    Attributes:
        common_datapoints: how many data points are in both runs; only these are compared.
        new_only_datapoints, old_only_datapoints: always 0, as with the official client: the backend does not tell.
        metric_deltas: by metric: `old_aggregate`, `new_aggregate`, how many data points `improved_count`,
            `degraded_count`, `same_count` and `found_count` are, their ids under `improved`, `degraded`, `same`, and
            `old_values`, `new_values`. Which direction is better, the backend knows.
    """

    new_run_id: str
    old_run_id: str
    common_datapoints: int = 0
    new_only_datapoints: int = 0
    old_only_datapoints: int = 0
    metric_deltas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def get_metric_delta(self, metric_name: str) -> Mapping[str, Any] | None:
        """The entry of one metric, if it is in both runs."""
        return self.metric_deltas.get(metric_name)

    def list_improved_metrics(self) -> list[str]:
        """Names of metrics that are better on some data point."""
        return [name for name, delta in self.metric_deltas.items() if delta["improved_count"] > 0]

    def list_degraded_metrics(self) -> list[str]:
        """Names of metrics that are worse on some data point; one may be in both lists."""
        return [name for name, delta in self.metric_deltas.items() if delta["degraded_count"] > 0]


def compare_runs(
    client: HoneyHive | str | None = None,
    new_run_id: str | None = None,
    old_run_id: str | None = None,
    project_id: str | None = None,
    aggregate_function: str = "average",
    *,
    api_key: str | None = None,
    server_url: str | None = None,
) -> RunComparisonResult:
    """Compare a run with an older one: `compare_runs(new, old)`, or `compare_runs(client, new, old)`.

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
    runs = (new_run_id, old_run_id)
    settings, (new, old) = asked("compare_runs", client, runs, api_key=api_key, server_url=server_url)
    with BackendClient(settings) as backend:
        return _comparison(new, old, backend.run_comparison(new, old, aggregate_function))


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
