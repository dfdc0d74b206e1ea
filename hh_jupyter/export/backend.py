"""Backend calls whose response the caller needs: runs, datasets, results, and whether a key is accepted.

They bypass the queue: the caller waits for the response, so nothing is queued or retried.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote, urlsplit

from opentelemetry import context as otel_context

from hh_jupyter.errors import BackendError
from hh_jupyter.export import endpoint, http
from hh_jupyter.export.worker import THREAD_PREFIX, Answer
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests


class BackendClient:
    """Client of one backend. A context manager; not thread-safe.

    Uses the API key, because the ingestion key can only send.

    Args:
        settings: URL, key and timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._host = urlsplit(settings.server_url).netloc.rpartition("@")[2]
        self._session: requests.Session | None = None

    def create_run(self, run: Mapping[str, Any]) -> str:
        """Create a run and return its id, which the backend may choose.

        Raises:
            BackendError: there is no valid response within the timeout. Every method may raise it.
        """
        answer = self._ask("POST", "/v1/runs", body=run)
        return str(answer.get("run_id") or run["run_id"])

    def update_run(self, run_id: str, fields: Mapping[str, Any]) -> None:
        """Update fields of a run."""
        self._ask("PUT", f"/v1/runs/{_part(run_id)}", body=fields)

    def run_result(self, run_id: str, aggregate_function: str) -> dict[str, Any]:
        """Return the backend's summary of a run."""
        query = {"aggregate_function": aggregate_function}
        return self._ask("GET", f"/v1/runs/{_part(run_id)}/result", query=query)

    def run_comparison(self, new_run_id: str, old_run_id: str, aggregate_function: str) -> dict[str, Any]:
        """Return the backend's comparison of two runs."""
        path = f"/v1/runs/{_part(new_run_id)}/compare-with/{_part(old_run_id)}"
        return self._ask("GET", path, query={"aggregate_function": aggregate_function})

    def dataset(self, dataset_id: str) -> dict[str, Any] | None:
        """Return a stored dataset with the ids of its datapoints; None if it does not exist."""
        return _first(self._ask("GET", "/v1/datasets", query={"dataset_id": dataset_id}).get("datasets"))

    def datapoint(self, datapoint_id: str) -> dict[str, Any] | None:
        """Return a stored datapoint; None if it does not exist."""
        return _first(self._ask("GET", f"/v1/datapoints/{_part(datapoint_id)}").get("datapoint"))

    def close(self) -> None:
        """Close the connection, unless it belongs to the caller."""
        if self._session is not None:
            from hh_jupyter.export.http import close_session

            close_session(self._session, self.settings)
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        import requests  # Imported late: it takes longer to import than the whole tracer.

        from hh_jupyter.export.http import open_session

        if self._session is None:
            self._session = open_session(self.settings)
        try:
            with _untraced():
                answer = self._request(method, path, query, body)
        except requests.Timeout:
            raise BackendError(
                f"{method} {path}: {self._host} did not respond within {self.settings.api_timeout:g} s"
            ) from None
        except requests.RequestException as error:
            raise BackendError(f"{method} {path}: {self._host} cannot be reached ({type(error).__name__})") from None
        return self._object_of(answer, f"{method} {path}: {self._host}")

    def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> requests.Response:
        from hh_jupyter.export.http import keep_credential

        assert self._session is not None
        credential = {"Authorization": f"Bearer {self.settings.api_key}"}
        return self._session.request(
            method,
            self.settings.server_url + path,
            params=query,
            data=None if body is None else endpoint.encode(body),
            headers={**endpoint.client_headers(self.settings), **endpoint.document_headers(), **credential},
            timeout=self.settings.api_timeout,
            allow_redirects=False,  # Send the key to the configured host only.
            auth=keep_credential,
        )

    def _object_of(self, answer: requests.Response, asked: str) -> dict[str, Any]:
        code = answer.status_code
        if code in (401, 403):
            raise BackendError(f"{asked} rejected the key ({code})", code)
        if not 200 <= code < 300:
            raise BackendError(f"{asked} answered {code}", code)
        try:
            found = json.loads(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BackendError(f"{asked} returned an unexpected response (is a proxy or login page in between?)", code)
        return found


def _part(text: str) -> str:
    """Quote an id as one URL path segment."""
    return quote(text, safe="")


def _first(found: Any) -> dict[str, Any] | None:
    item = found[0] if isinstance(found, list) and found else None
    return cast("dict[str, Any]", item) if isinstance(item, dict) else None


@contextmanager
def _untraced() -> Iterator[None]:
    """Suppress spans of instrumented HTTP clients for our own requests."""
    token = otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        otel_context.detach(token)


def check_key(settings: Settings, seconds: float) -> http.Result:
    """Ask the backend once whether it accepts the API key, and return what its answer means within `seconds`.

    The question is an export without spans. It takes the way of every later export and leaves nothing behind.
    """
    answer: Answer[http.Result] = Answer()
    asking = replace(settings, ingestion_api_key=None, export_timeout=seconds)
    if endpoint.trace_headers(asking).get("Authorization") != endpoint.client_headers(asking)["Authorization"]:
        asking = replace(asking, otlp_endpoint=None, otlp_headers=None)  # Spans go elsewhere, without this key.

    def ask() -> None:
        connection = http.Connection(endpoint.HoneyHiveEndpoint())
        with _untraced():
            answer.give(connection.post(asking, "spans", "", [b""], lambda: None))
        connection.close()

    try:  # On a thread, because no timeout applies to looking up the host's name.
        threading.Thread(target=ask, name=f"{THREAD_PREFIX}question", daemon=True).start()
    except RuntimeError:  # The platform has no threads to give.
        ask()
    if answer.wait(seconds) and answer.value is not None:
        return answer.value
    text = f"{endpoint.host_of(endpoint.trace_url(asking))} did not respond within {seconds:g} s"
    return http.Result("retry", text, reached=False, timed_out=True)
