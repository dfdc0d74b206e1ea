"""Settings change what is sent: experiment attributes on every span and the size of requests."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES

PREFIX = "honeyhive.experiment_"


def experiment_of(span: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(PREFIX): value for key, value in span["attributes"].items() if key.startswith(PREFIX)}


def test_the_experiment_from_the_environment_is_on_every_span_of_any_library(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "ID": "exp-1",
        "NAME": "exp name",
        "VARIANT": "B",
        "GROUP": "g",
        "METADATA": '{"temperature": 0.5, "on": true, "list": [1, {"a": 2}], "none": null}',
    }.items():
        monkeypatch.setenv(f"HH_EXPERIMENT_{name}", text)
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url) as tracer:
        with tracer.start_span("ours"):
            pass
        tracer.provider.get_tracer("library").start_span("theirs", kind=SpanKind.CLIENT).end()
        assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["ours", "theirs"]
    for span in backend.spans():
        assert experiment_of(span) == {
            "id": "exp-1",
            "name": "exp name",
            "variant": "B",
            "group": "g",
            "metadata.temperature": "0.5",
            "metadata.on": "True",
            "metadata.list": '[1, {"a": 2}]',
        }


def test_without_an_experiment_no_attributes_are_written_and_metadata_secrets_are_redacted(backend: Backend) -> None:
    for given in ({}, {"experiment_id": "", "experiment_metadata": {"api_key": "value-0123456789"}}):
        with HoneyHiveTracer.init(api_key="k", server_url=backend.url, **given) as tracer:
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
    without, secret = (experiment_of(span) for span in backend.spans())
    assert without == {}
    assert list(secret) == ["metadata.api_key"]
    assert "0123456789" not in str(secret)


def test_a_credential_from_the_headers_is_redacted_everywhere_but_a_region_is_not(
    backend: Backend,
) -> None:
    headers = {"Authorization": "Bearer token-98765432", "X-Region": "europe-west"}
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, otlp_headers=headers) as tracer:
        with tracer.start_span("work", attributes={"text": "sent token-98765432 to europe-west"}):
            pass
        assert tracer.force_flush()
    text = backend.spans()[0]["attributes"]["text"]
    assert "token-98765432" not in text
    assert "europe-west" in text


@pytest.mark.parametrize(("most", "batch_size"), [(1, 100), (7, 100), (7, 3), (40, 40)])
def test_no_request_holds_more_spans_than_allowed_and_full_ones_do_not_wait(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, most: int, batch_size: int
) -> None:
    monkeypatch.setenv("HH_MAX_EXPORT_BATCH_SIZE", str(most))
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, batch_size=batch_size, flush_interval=300) as tracer:
        for number in range(41):
            with tracer.start_span(f"{number}"):
                pass
        # Fewer than a full request may wait; how full the others are depends on when the spans were taken.
        assert backend.wait_for(lambda found: len(found.spans()) > 41 - most), len(backend.spans())
        assert tracer.force_flush()
    sizes = [len(request.body) for request in backend.requests if request.path == TRACES]
    assert sum(sizes) == 41
    assert max(sizes) <= most


def test_spans_that_do_not_fit_into_the_next_request_do_not_delay_it(backend: Backend) -> None:
    with HoneyHiveTracer.init(
        api_key="k", server_url=backend.url, max_export_batch_size=7, flush_interval=300
    ) as tracer:
        for _ in range(2):
            for _ in range(4):
                with tracer.start_span("work"):
                    pass
            assert tracer.wait_processed()
        assert backend.wait_for(lambda found: len(found.spans()) == 4)
        assert tracer.force_flush()
    assert [len(request.body) for request in backend.requests if request.path == TRACES] == [4, 4]
