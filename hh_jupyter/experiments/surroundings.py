"""What a run takes place in: the tracer that it uses, the backend that answers, the instrumentors that are on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import TracerProvider

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import SettingError
from hh_jupyter.experiments.checks import check_aggregate
from hh_jupyter.experiments.datapoint import SOURCE
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.tracer import HoneyHiveTracer


@contextmanager
def tracer_for(given: Mapping[str, Any], *, verbose: bool) -> Iterator[HoneyHiveTracer]:
    """The current tracer if it sends to the same place, so that all share one pipeline; else one for this run."""
    found = current_tracer()
    nothing_given = all(value is None for value in given.values())
    if found is not None and nothing_given:
        settings = found.settings
    else:
        settings = settings_table.resolve({**given, "verbose": verbose or None}, called="evaluate")
    if found is not None and not found.closed and _place(found.settings) == _place(settings):
        yield found
        return
    settings = dataclasses.replace(settings, source=SOURCE, session_id=None, skip_backend_session_creation=True)
    tracer = HoneyHiveTracer.from_settings(settings, name=SOURCE, join=False, register="never")
    try:
        yield tracer
    finally:
        tracer.shutdown()


def _place(settings: Settings) -> tuple[object, ...]:
    if settings.local:
        return (True, settings.project)
    return (False, settings.project, settings.server_url, settings.api_key, settings.ingestion_api_key)


@contextmanager
def backend_for(settings: Settings, aggregate_function: str, dataset_id: str | None) -> Iterator[BackendClient | None]:
    """Who answers; None in local mode.

    Raises:
        SettingError: it could not answer what will be asked.
    """
    if not settings.local and settings.api_key is None:
        raise SettingError("evaluate: api_key is needed to make a run; an ingestion key may only send.")
    if settings.local and dataset_id is not None:
        raise SettingError("evaluate: dataset_id needs an api_key: the dataset is in the backend.")
    check_aggregate(aggregate_function, local=settings.local)
    if settings.local:
        yield None
        return
    with BackendClient(settings) as backend:
        yield backend


@contextmanager
def instrumented(factories: Sequence[Callable[[], Any]], provider: TracerProvider) -> Iterator[None]:
    """Instrumentors switched on for a while; what was on already is neither switched on twice nor off afterwards."""
    made = [factory() for factory in factories]
    ours = [item for item in made if not getattr(item, "is_instrumented_by_opentelemetry", False)]
    for item in ours:
        item.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        for item in ours:
            item.uninstrument()
