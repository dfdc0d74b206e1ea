"""Where errors began, which spans they propagated through, and which of them left the code that made the spans.

Only evidence connects the errors of two spans: their texts and the frames of their tracebacks. An error is counted
once, where it began.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hh_jupyter.records.nodes import ErrorRole, SpanNode, node_order
from hh_jupyter.records.record import CALL_KINDS, SpanError

Relation = Literal["same", "cause", "unknown", "other"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How the code that made the spans ended.

    Attributes:
        ended_ns: when it ended, in Unix nanoseconds.
        error: the exception that left it; None if it ended normally.
        of_threads: exceptions that ended threads which it had started.
    """

    ended_ns: int
    error: SpanError | None = None
    of_threads: tuple[SpanError, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that left the calling code, or the last root that failed.

    Attributes:
        error: its most telling description; None if no span describes it.
        node: the span in which it began; None if it began outside of spans.
        causes: the spans in which the errors began that it was raised from, or that it is a group of.
    """

    error: SpanError | None
    node: SpanNode | None
    causes: tuple[SpanNode, ...] = ()


def relation(error: SpanError | None, below: SpanError | None) -> Relation:
    """How an error is related to the error of a span below.

    Two errors are the same if type and message are equal and the frames of one traceback are the innermost frames of
    the other: a block inside a generator sees more frames, a caller sees more of its own. Errors of other tracers may
    have no traceback, and repeat the message with additions.

    Args:
        error: of the span above, or of the calling code.
        below: of the span below.
    """
    if error is None or below is None:
        return "unknown"
    key = below.type, below.message
    common = min(len(error.frames), len(below.frames))
    if key == (error.type, error.message) and error.frames[:common] == below.frames[:common]:
        return "same"
    if key in error.causes:
        return "cause"
    if common:
        return "other"
    if not below.message or not error.message:
        return "same" if below.type == error.type else "unknown"
    return "same" if _repeats(error, below) or _repeats(below, error) else "other"


def _repeats(error: SpanError, other: SpanError) -> bool:
    """Whether an error is the other one with additions to its message, such as its type."""
    known = error.type == other.type or other.type in error.message
    return known and re.search(rf"(?<!\w){re.escape(other.message)}(?!\w)", error.message) is not None


def sources(error: SpanError | None, below: Sequence[SpanNode], last_start_ns: int) -> list[SpanNode]:
    """Those of the failed spans below whose error became this one; the errors of the others were caught.

    Without a description, an error became this one if nothing else started after it. Of equal errors, those of earlier
    attempts were caught. Failures that overlap in time, as under `gather`, count together.

    Args:
        error: of the span above, or of the calling code.
        below: spans that failed, without those below them.
        last_start_ns: start of the last span below, failed or not.
    """
    related = [(relation(error, node.record.error), node) for node in below]
    same = [node for how, node in related if how == "same"]
    if not same and (causes := [node for how, node in related if how == "cause"]) and error is not None:
        return _last_of_each(causes, error.causes)
    if not same:
        same = [node for how, node in related if how == "unknown"]
        if not same or last_start_ns > max(node.end_ns for node in same):
            return []
    last_failed = max(node.start_ns for node in same)
    return [node for node in same if node.end_ns > last_failed or node.start_ns == last_failed]


def _last_of_each(causes: Sequence[SpanNode], keys: Sequence[tuple[str, str]]) -> list[SpanNode]:
    """Of spans with equal errors, as many as the error above has such causes: the last ones."""
    left = Counter(keys)
    found = []
    for node in sorted(causes, key=lambda node: node.end_ns, reverse=True):
        key = _error_key(node)
        if left[key] > 0:
            left[key] -= 1
            found.append(node)
    return sorted(found, key=node_order)


def mark_errors(nodes: Sequence[SpanNode], ending: Ending | None) -> Failure | None:
    """Set the roles of failed spans, count their origins up to the roots, and return the error to show first.

    Args:
        nodes: of a tree, depth first.
        ending: see `SpanTree.build`.
    """
    origins = _find_origins(nodes)
    tops = [node for node in nodes if _is_top(node) and not node.passed]
    roots = [node for node in nodes if node.parent is None]
    escaped, failure = _escaped(tops, roots, ending, origins)
    left = set(map(id, escaped))
    for node in nodes:
        if id(node) in left:
            left.update(id(child) for child in node.children if child.passed)
        if node.record.status == "cancelled":
            node.error = "cancelled"
        elif node.record.status == "error":
            uncaught: ErrorRole = "uncaught" if id(node) in left else "caught"
            node.error = uncaught if id(node) in origins else "propagated"
    for node in reversed(nodes):
        above = node.parent
        node.errors += node.error == "uncaught"
        node.caught += node.error == "caught"
        node.cancelled += node.error == "cancelled" and (above is None or above.record.status != "cancelled")
        if above is not None:
            above.errors += node.errors
            above.caught += node.caught
            above.cancelled += node.cancelled
    return failure


def _find_origins(nodes: Sequence[SpanNode]) -> set[int]:
    """Set `passed` and `converted` of failed spans; returns the ids of the nodes in which errors began."""
    repeats: set[int] = set()  # Spans whose error is described better by a span above.
    origins: set[int] = set()
    traced: dict[int, SpanError] = {}  # Errors without a traceback, with that of the same error above.
    for node in nodes:
        if not node.record.failed:
            continue
        error = traced.get(id(node), node.record.error)
        found = _failed_sources(node, error)
        how = _how(error, found)
        for child in found:
            _pass_to(node, child)
            if how == "same" and error and child.record.error and not _has_frames(child):
                traced[id(child)] = replace(child.record.error, frames=error.frames, causes=error.causes)
        if id(node) in repeats or _tells_more(node, found):
            repeats.update(map(id, found))
        else:
            node.converted = how == "cause"
        if id(node) not in repeats and all(id(child) in repeats for child in found):
            origins.add(id(node))
    return origins


def _failed_sources(node: SpanNode, error: SpanError | None) -> list[SpanNode]:
    """The spans below whose error became this node's error."""
    status = node.record.status
    failed = [child for child in node.children if child.record.status == status]
    below = [child for child in failed if not child.repeats]
    if status == "cancelled":  # Children without a description may have been cancelled for themselves.
        return [child for child in below if relation(error, child.record.error) in ("same", "cause")]
    found = sources(error, below, node.children[-1].start_ns) if below else []
    if not found and error is not None and error.frames:
        hidden = [deeper for deeper in _below_unfailed(node) if _has_frames(deeper)]
        found = sources(error, hidden, 0) if hidden else []
    return found + [child for child in failed if child.repeats and not _was_retried(child)]


def _was_retried(node: SpanNode) -> bool:
    """Whether a span of the same call started after it."""
    siblings = node.parent.children if node.parent is not None else []
    return any(other.repeats and other.start_ns >= node.end_ns for other in siblings)


def _how(error: SpanError | None, found: Sequence[SpanNode]) -> Relation:
    """How an error is related to those that it came from; spans of one call have the same error."""
    if not found:
        return "other"
    return "same" if found[0].repeats else relation(error, found[0].record.error)


def _below_unfailed(node: SpanNode) -> list[SpanNode]:
    """The failed spans below children that did not fail: some tracers do not record errors."""
    found: list[SpanNode] = []
    waiting = [child for child in node.children if not child.record.failed]
    while waiting:
        for child in waiting.pop().children:
            (found if child.record.failed else waiting).append(child)
    return found


def _pass_to(node: SpanNode, below: SpanNode) -> None:
    """Set `passed` of a span and of the spans between."""
    at: SpanNode | None = below
    while at is not None and at is not node:
        at.passed = True
        at = at.parent


def _has_frames(node: SpanNode) -> bool:
    return node.record.error is not None and bool(node.record.error.frames)


def _is_top(node: SpanNode) -> bool:
    """Whether a span failed below none that failed."""
    return node.record.failed and not (node.parent is not None and node.parent.record.failed)


def _tells_more(node: SpanNode, found: Sequence[SpanNode]) -> bool:
    """Whether a span describes the error of one call at least as well as all spans below it that failed with it."""
    told, call = _telling(node), node.record.facts.kind in CALL_KINDS

    def tells_less(child: SpanNode) -> bool:
        if child.repeats:
            return _telling(child) <= told
        kind = child.record.facts.kind
        return (kind == "http" or (call and kind in CALL_KINDS)) and _telling(child) < min(told, _WITH_MESSAGE)

    return bool(found) and all(map(tells_less, found))


_WITH_MESSAGE: Final = 3


def _telling(node: SpanNode) -> int:
    """How much a span tells about its error: nothing, a status (1), a type (2) or a message (3)."""
    error = node.record.error
    if error is None:
        return 0
    return _WITH_MESSAGE if error.message else 1 if error.type.startswith("HTTP ") else 2


def _escaped(
    tops: Sequence[SpanNode], roots: Sequence[SpanNode], ending: Ending | None, origins: set[int]
) -> tuple[list[SpanNode], Failure | None]:
    """The spans whose error left the calling code or its threads, and the error to show first.

    Args:
        tops: spans that failed, and whose error no span above has. Not all are roots.
        roots: of the tree.
        ending: see `SpanTree.build`.
        origins: ids of the nodes in which errors began.
    """
    failed = [root for root in roots if root.record.status == "error"]
    if ending is None:
        return failed, _failure_of(failed, origins)
    escaped = [root for root in failed if root.end_ns > ending.ended_ns]
    traced = [top for top in tops if _has_frames(top)]
    for error in ending.of_threads:
        escaped += sources(error, traced, 0) if traced else []
    if ending.error is None:
        return escaped, _failure_of(escaped, origins)
    below = [top for top in tops if top.parent is None or _has_frames(top)]
    found = sources(ending.error, below, roots[-1].start_ns) if below else []
    if found and relation(ending.error, found[0].record.error) != "cause":
        return escaped + found, _failure(ending.error, min(found, key=_shown_first), origins)
    return escaped + found, Failure(ending.error, None, _origins_of(found, origins))


def _failure_of(failed: Sequence[SpanNode], origins: set[int]) -> Failure | None:
    """The error to show first if it is not known which one left the calling code: the last described one."""
    described = [root for root in failed if _telling(root) == _WITH_MESSAGE] or failed
    return _failure(None, max(described, key=node_order), origins) if described else None


def _shown_first(node: SpanNode) -> tuple[int, int]:
    return -_telling(node), node.end_ns


def _failure(error: SpanError | None, top: SpanNode, origins: set[int]) -> Failure:
    """The error that left a span, followed down to the span in which it began."""
    path = _path_to_origin(top, origins)
    node = path[-1]
    best = max(path, key=_telling).record.error if error is None else error
    if best is not None and best.location is None and node.record.error is not None:
        best = replace(best, location=node.record.error.location)
    return Failure(best, node, _origins_of(_causes(node), origins))


def _path_to_origin(top: SpanNode, origins: set[int]) -> list[SpanNode]:
    """The spans that an error went through, from this one to the one in which it began."""
    path = [top]
    while id(path[-1]) not in origins and not path[-1].converted:
        path.append(min((child for child in path[-1].children if child.passed), key=_shown_first))
    return path


def _causes(node: SpanNode) -> list[SpanNode]:
    """The spans below whose errors this span's error was raised from."""
    return [child for child in node.children if child.passed] if node.converted else []


_MAX_CAUSES: Final = 5


def _origins_of(causes: Sequence[SpanNode], origins: set[int]) -> tuple[SpanNode, ...]:
    """The spans in which these errors began, each followed by those of the errors that it was raised from."""
    found: list[SpanNode] = []
    waiting = deque(causes)
    while waiting and len(found) < _MAX_CAUSES:
        found.append(_path_to_origin(waiting.popleft(), origins)[-1])
        waiting.extendleft(reversed(_causes(found[-1])))
    return tuple(found)


TIMEOUT: Final = "TimeoutError"


def timed_out(node: SpanNode) -> bool:
    """Whether a span ended with a TimeoutError that was caught."""
    error = node.record.error
    return error is not None and error.type == TIMEOUT and node.error in ("caught", "propagated") and not node.errors


def _error_key(node: SpanNode) -> tuple[str, str]:
    error = node.record.error
    return ("", "") if error is None else (error.type, error.message)
