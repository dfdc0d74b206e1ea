"""The network: one thread that sends what is due and judges the answers. Only `ask` opens sockets besides."""

from __future__ import annotations

import gzip
import json
import logging
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context

from hh_jupyter.delivery import api
from hh_jupyter.delivery.outbox import Item, Outbox, Outcome
from hh_jupyter.delivery.seal import THREAD_PREFIX
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
TRACE_TIMEOUT: Final = 10.0
"""Seconds for the answer to a span export; calls have `HH_API_TIMEOUT`."""

CALLS: Final = {
    "session_start": api.SESSION_START,
    "event_update": api.EVENT_UPDATE,
    "event_create": api.EVENT_CREATE,
}
TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means for the items of its request."""

    outcome: Outcome
    reason: str | None = None
    reached: bool = True


class Sender:
    """Takes due items from the outbox until it is stopped.

    Args:
        settings: address, key, protocol, timeouts; replaced through `settings` when they change.
        outbox: where items come from and verdicts go to.
    """

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self.settings, self._outbox = settings, outbox
        self._stopping = False
        self._failures = 0
        self._session: requests.Session | None = None
        self._thread = threading.Thread(target=self._run, name=f"{THREAD_PREFIX}sender", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread after the request that is under way, waiting at most `timeout` seconds."""
        with self._outbox.changed:
            self._stopping = True
            self._outbox.changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        # This thread's own requests must not become spans; the thread ends with its context, so nothing is undone.
        otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
        while not self._stopping:
            with self._outbox.changed:  # Looking and going to sleep are one step, or a flush in between is missed.
                items = self._outbox.take()
                if not items and not self._stopping:
                    self._outbox.changed.wait(self._outbox.seconds_to_next())
            if items:
                self._send(items)
        if self._session is not None and self._session is not self.settings.requests_session:
            self._session.close()

    def _send(self, items: Sequence[Item]) -> None:
        try:
            verdict = self._attempt(items)
        except Exception as error:  # boundary: a fault here must not end the thread and so lose everything after it.
            logger.exception("sending failed inside hh_jupyter")
            verdict = Verdict("parked", f"an internal error, {type(error).__name__}")
        self._failures = 0 if verdict.outcome == "sent" else self._failures + 1
        wait = 0.0
        if verdict.outcome == "retry":
            tries = max(item.tries for item in items) if verdict.reached else self._failures - 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0)
        if verdict.reason:
            logger.debug("%s: %s", self._outbox.destination, verdict.reason)
        self._outbox.settle(items, verdict.outcome, verdict.reason, wait, reached=verdict.reached)

    def _attempt(self, items: Sequence[Item]) -> Verdict:
        import requests  # Only here, on this thread: it costs more to import than all of the tracer.

        if self._session is None:
            self._session = self.settings.requests_session or requests.Session()
        try:
            answer = self._post_spans(items) if items[0].kind == "spans" else self._call(items[0])
        except requests.Timeout:
            return Verdict("retry", f"{self._outbox.destination} does not answer", reached=False)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return Verdict("retry", f"{self._outbox.destination} cannot be reached", reached=False)
        except requests.RequestException as error:
            return Verdict("parked", f"the request could not be made, {type(error).__name__}")
        return judge(answer, self._outbox.destination or "", spans=items[0].kind == "spans")

    def _post_spans(self, items: Sequence[Item]) -> requests.Response:
        from hh_jupyter.delivery import otlp

        as_json = self.settings.otlp_protocol == "http/json"
        body = otlp.join(item.body for item in items)
        body = gzip.compress(otlp.to_json(body) if as_json else body, compresslevel=1)
        extra = api.trace_headers(self.settings.source, as_json=as_json)
        return self._request("POST", otlp.TRACES_PATH, body, extra, max(TRACE_TIMEOUT, self.settings.api_timeout))

    def _call(self, item: Item) -> requests.Response:
        method, path = CALLS[item.kind]
        return self._request(method, path, item.body, api.call_headers(), self.settings.api_timeout)

    def _request(self, method: str, path: str, body: bytes, extra: dict[str, str], timeout: float) -> requests.Response:
        assert self._session is not None
        return self._session.request(
            method,
            self.settings.server_url + path,
            data=body,
            headers={**api.headers(self.settings), **extra},
            timeout=timeout,
            allow_redirects=False,  # The key goes to the configured host only.
            auth=keep_credential,
        )


def keep_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An `auth` that changes nothing: without one, requests lets ~/.netrc replace the Authorization header."""
    return request


def judge(answer: requests.Response, destination: str, *, spans: bool) -> Verdict:
    """The verdict on an answer: a 2xx counts only if its body is empty or what such an answer holds."""
    from hh_jupyter.delivery import otlp

    code = answer.status_code
    if code in TRY_AGAIN or code >= 500:
        return Verdict("retry", f"{destination} answered {code}")
    if code in (401, 403):
        return Verdict("parked", f"{destination} rejected the key ({code})")
    if not 200 <= code < 300:
        return Verdict("parked", f"{destination} refused the request ({code})")
    if not spans:
        return Verdict("sent") if _is_json(answer.content) else Verdict("retry", _stranger(destination))
    refused = otlp.refused_spans(answer.headers.get("Content-Type", ""), answer.content)
    if refused is None:
        return Verdict("retry", _stranger(destination))
    return Verdict("parked", f"{destination} refused {refused} spans") if refused else Verdict("sent")


def _stranger(destination: str) -> str:
    return f"{destination} answered, but not as the backend does: a proxy or login page?"


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body or b"{}")
    except ValueError:
        return False
    return True
