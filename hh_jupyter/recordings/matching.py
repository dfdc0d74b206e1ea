"""Which recorded request equals a new one, and which is nearest to one that was not recorded.

Requests are equal if method, path and body are: the body as JSON (order of keys, spelling of numbers and white space do
not matter), a form without its boundary, anything else byte by byte. The host and the headers do not matter.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from hh_jupyter.recordings.exchange import Request

_CREDENTIALS: Final = frozenset({"key", "api_key", "apikey", "api-key", "access_token", "token", "sig", "signature"})
"""Parameters of an address that hold keys: they are neither compared nor written."""

_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)', re.IGNORECASE)
_LARGEST_EXACT: Final = 2**53
_DIGEST_LENGTH: Final = 32


def target(request: Request) -> str:
    """Path and query without keys; the parameters in order."""
    path, _, query = request.target.partition("?")
    kept = sorted(pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0].lower() not in _CREDENTIALS)
    return f"{path}?{urlencode(kept)}" if kept else path


def raw_digest(request: Request) -> str:
    """The digest of the request as it is, which is fast."""
    return _digest(request.method, request.target, request.body)


def canonical_digest(request: Request, ignore: Collection[str] = ()) -> str:
    """The digest that equal requests share.

    Args:
        ignore: fields of a JSON body that do not matter, such as "user" or "metadata.run"; lists are looked through.
    """
    content_type = request.headers.get("content-type", "")
    return _digest(request.method, target(request), canonical_body(request.body, content_type, ignore))


def recorded_digest(method: str, target: str, body: Any, ignore: Collection[str] = ()) -> str:
    """The same for a JSON body in a file."""
    return _digest(method, target, canonical_body(json.dumps(body).encode(), ignore=ignore))


def canonical_body(body: bytes, content_type: str = "", ignore: Collection[str] = ()) -> bytes:
    """The body in the one spelling that is compared."""
    if body[:1] in {b"{", b"["}:
        try:
            return _canonical_text(_without(json.loads(body, parse_float=_number), ignore))
        except (ValueError, RecursionError):
            return body
    boundary = _BOUNDARY.search(content_type)
    return body.replace(boundary[1].encode(), b"boundary") if boundary else body


def _digest(method: str, target: str, body: bytes) -> str:
    digest = hashlib.sha256(f"{method} {target}\n".encode("utf-8", "surrogatepass"))  # Processors have it built in.
    digest.update(body)
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _canonical_text(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _number(text: str) -> Any:
    """A number with a point or an exponent: 1.0 and 1 are equal, and what a float cannot hold stays text."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return text
    return int(value) if value.is_integer() and abs(value) < _LARGEST_EXACT else value


def _without(document: Any, ignore: Collection[str]) -> Any:
    """The document without the fields in `ignore`; it is changed in place."""
    for path in ignore:
        _remove(document, path.split("."))
    return document


def _remove(value: Any, path: list[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _remove(item, path)
    elif isinstance(value, dict):
        if len(path) == 1:
            value.pop(path[0], None)
        elif path[0] in value:
            _remove(value[path[0]], path[1:])


# The nearest recorded request

_MOST_CHANGES: Final = 4
_MOST_COMPARED: Final = 200
_SHOWN: Final = 60  # characters


def nearest(document: Any, candidates: Iterable[tuple[str, Any]]) -> tuple[str, list[str]] | None:
    """The recorded request that differs least, as its name and what changed in words; None without candidates.

    Args:
        document: the body of the request, redacted.
        candidates: name and body of recorded requests, likewise.
    """
    leaves = dict(_leaves(document))
    best: tuple[float, str, dict[str, Any]] | None = None
    for number, (name, recorded) in enumerate(candidates):
        if number == _MOST_COMPARED:
            break
        other = dict(_leaves(recorded))
        distance = sum(_distance(leaves.get(path), other.get(path)) for path in leaves.keys() | other.keys())
        if best is None or distance < best[0]:
            best = distance, name, other
    if best is None:
        return None
    _, name, other = best
    paths = [path for path in dict.fromkeys([*leaves, *other]) if leaves.get(path) != other.get(path)]
    changes = [_change(path, other, leaves) for path in paths[:_MOST_CHANGES]]
    if len(paths) > _MOST_CHANGES:
        changes.append(f"{len(paths) - _MOST_CHANGES} more")
    return name, changes


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a document with their paths: "messages[1].content"."""
    pending = [(path, value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict) and value:
            pending.extend((f"{path}.{key}" if path else str(key), item) for key, item in reversed(value.items()))
        elif isinstance(value, list) and value:
            pending.extend((f"{path}[{index}]", item) for index, item in reversed(list(enumerate(value))))
        else:
            yield path or "body", value


def _distance(one: Any, other: Any) -> float:
    if one == other:
        return 0
    if isinstance(one, str) and isinstance(other, str):
        # Text that begins or ends in the same way is nearer.
        return 1 - difflib.SequenceMatcher(None, one[:200], other[:200]).quick_ratio() / 2
    return 1


def _change(path: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    if path not in old:
        return f"{path} was added: {_short(new[path])}"
    if path not in new:
        return f"{path} was removed"
    before, after = old[path], new[path]
    start = 0
    if isinstance(before, str) and isinstance(after, str):
        start = max(0, _common(before, after) - _SHOWN // 3)
    return f"{path} is {_short(after, start)}, was {_short(before, start)}"


def _common(one: str, other: str) -> int:
    """Number of equal characters at the beginning."""
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _short(value: Any, start: int = 0) -> str:
    if not isinstance(value, str):
        return json.dumps(value)[:_SHOWN]
    shown = value[start : start + _SHOWN]
    return json.dumps(("…" if start else "") + shown + ("…" if start + _SHOWN < len(value) else ""), ensure_ascii=False)
