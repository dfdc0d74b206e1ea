"""All tracers have the same resource, and OpenTelemetry's own environment variables apply."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend

NAMED = "service.name=from attributes,team=search"


@pytest.mark.parametrize(
    ("environ", "argument", "name"),
    [
        ({}, None, "shop"),
        ({"HH_SERVICE_NAME": "ours"}, None, "ours"),
        ({"OTEL_SERVICE_NAME": "standard", "HH_SERVICE_NAME": "ours"}, None, "standard"),
        ({"OTEL_SERVICE_NAME": "standard"}, "argument", "argument"),
        ({"OTEL_RESOURCE_ATTRIBUTES": NAMED}, None, "from attributes"),
        ({"OTEL_RESOURCE_ATTRIBUTES": NAMED, "HH_SERVICE_NAME": "ours"}, None, "ours"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=search"}, None, "shop"),
        ({"SERVICE_NAME": "somebody's"}, None, "shop"),
    ],
)
def test_which_setting_names_the_service(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    environ: Mapping[str, str],
    argument: str | None,
    name: str,
) -> None:
    for variable, text in environ.items():
        monkeypatch.setenv(variable, text)
    # A tracer that is not the first has a provider, and so a resource, of its own.
    with (
        HoneyHiveTracer.init(test_mode=True),
        HoneyHiveTracer.init(
            api_key="k", server_url=backend.url, project="shop", service_name=argument, multi_instance=True
        ) as tracer,
    ):
        with tracer.start_span("work"):
            pass
        assert tracer.force_flush()
    resource = backend.spans()[0]["resource"]
    assert resource["service.name"] == name
    assert resource.get("team") == ("search" if "team" in str(environ) else None)


def test_a_service_without_a_name_is_unknown_and_has_its_version(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HH_SERVICE_VERSION", "9.9")
    with (
        HoneyHiveTracer.init(test_mode=True),
        HoneyHiveTracer.init(api_key="k", server_url=backend.url) as tracer,
    ):
        with tracer.start_span("work"):
            pass
        assert tracer.force_flush()
    resource = backend.spans()[0]["resource"]
    assert resource["service.name"].startswith("unknown_service")
    assert resource["service.version"] == "9.9"


def test_a_reused_or_reconfigured_provider_names_the_service_of_its_current_tracer(
    backend: Backend,
) -> None:
    """As in a notebook: the provider is made when the extension loads, the project is named by a later `init`."""
    ours = {"api_key": "k", "server_url": backend.url}
    with HoneyHiveTracer.init(service_name="first", service_version="1", **ours) as tracer:
        for settings in ({"project": "shop"}, {"service_name": "last", "service_version": "2"}):
            tracer.configure(resolve({**ours, **settings}))
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
    first, last = (span["resource"] for span in backend.spans())
    assert (first["service.name"], last["service.name"]) == ("shop", "last")
    assert last["service.version"] == "2"
    assert first["service.instance.id"] == last["service.instance.id"]


def test_all_tracers_have_the_same_resource(backend: Backend) -> None:
    tracers = [HoneyHiveTracer.init(api_key="k", server_url=backend.url, service_name="s") for _ in range(3)]
    for tracer in tracers:
        with tracer.start_span("work"):
            pass
        assert tracer.force_flush()
        tracer.shutdown()
    resources = [span["resource"] for span in backend.spans()]
    assert len(resources) == 3
    assert len({id(tracer.provider) for tracer in tracers}) == 3
    assert resources[0]["service.name"] == "s"
    assert resources == [resources[0]] * 3
