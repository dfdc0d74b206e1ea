"""The OpenTelemetry resource of our own providers, with the name and version of the service.

A provider outlives its tracer: the next tracer takes it over, and a notebook can change its tracer's settings. So the
service is set when a span is finalized, from the settings of the tracer that finalizes it.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource

from hh_jupyter.settings import Settings


class OwnResource(Resource):
    """The resource of a provider that we created. The resources of other providers are not changed."""

    def for_tracer(self, settings: Settings) -> Resource:
        """Return a copy with the service from the settings."""
        return Resource({**self.attributes, **_service(settings)}, self.schema_url)


def own_resource(settings: Settings) -> OwnResource:
    """Return the resource of a new provider: OpenTelemetry's variables, plus the service from the settings."""
    made = Resource.create()
    return OwnResource({**made.attributes, **_service(settings)}, made.schema_url)


def _service(settings: Settings) -> dict[str, str]:
    """Return the service name and version. The project is the fallback if no service name is set."""
    named = OTELResourceDetector().detect().attributes
    name = settings.service_name or str(named.get(SERVICE_NAME) or "") or settings.project or "unknown_service:python"
    version = settings.service_version or str(named.get(SERVICE_VERSION) or "")
    return {SERVICE_NAME: name, **({SERVICE_VERSION: version} if version else {})}
