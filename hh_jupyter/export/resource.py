"""The OpenTelemetry resource of our own providers, with the name and version of the service.

A provider outlives its tracer: the next tracer takes it over, and a notebook can change its tracer's settings. So the
service is set when a span is finalized, from the settings of the tracer that finalizes it.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.version import __version__ as sdk_version

from hh_jupyter.settings import Settings
from hh_jupyter.threads import note_problem


class OwnResource(Resource):
    """The resource of a provider that we created. The resources of other providers are not changed."""

    def for_tracer(self, settings: Settings) -> Resource:
        """Return a copy with the service from the settings."""
        return Resource({**self.attributes, **_service(settings)}, self.schema_url)


def own_resource(settings: Settings) -> OwnResource:
    """Return the resource of a new provider: OpenTelemetry's variables, plus the service from the settings."""
    try:
        made = Resource.create()
    except RuntimeError as error:  # It calls its detectors on threads.
        note_problem(error)
        sdk = {
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: sdk_version,
        }
        made = Resource(sdk).merge(OTELResourceDetector().detect())
    return OwnResource({**made.attributes, **_service(settings)}, made.schema_url)


def _service(settings: Settings) -> dict[str, str]:
    """Return the service name and version. The project is the fallback if no service name is set."""
    named = OTELResourceDetector().detect().attributes
    name = settings.service_name or str(named.get(SERVICE_NAME) or "") or settings.project or "unknown_service:python"
    version = settings.service_version or str(named.get(SERVICE_VERSION) or "")
    return {SERVICE_NAME: name, **({SERVICE_VERSION: version} if version else {})}
