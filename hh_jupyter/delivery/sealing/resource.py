"""What the spans of our own providers say about the service they come from.

A provider outlives its tracer: the next one takes it over, and a notebook gives its tracer other settings. The service
is therefore written when a span is sealed, by the settings of the tracer that seals it.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource

from hh_jupyter.settings import Settings


class OwnResource(Resource):
    """The resource of a provider that we made; other providers' resources stay as they are."""

    def for_tracer(self, settings: Settings) -> Resource:
        """The same with the service that the settings name."""
        return Resource({**self.attributes, **_service(settings)}, self.schema_url)


def own_resource(settings: Settings) -> OwnResource:
    """The resource of a new provider: OpenTelemetry's own variables hold, with the service of the settings."""
    made = Resource.create()
    return OwnResource({**made.attributes, **_service(settings)}, made.schema_url)


def _service(settings: Settings) -> dict[str, str]:
    """Name and version; the project is the name only where nobody names a service."""
    named = OTELResourceDetector().detect().attributes
    name = settings.service_name or str(named.get(SERVICE_NAME) or "") or settings.project or "unknown_service:python"
    version = settings.service_version or str(named.get(SERVICE_VERSION) or "")
    return {SERVICE_NAME: name, **({SERVICE_VERSION: version} if version else {})}
