"""Where each error began: a failing span repeats the error of the one below it, which is shown and counted once."""

from __future__ import annotations

from collections.abc import Sequence

from hh_jupyter.records.span_node import SpanNode


def place_errors(nodes: Sequence[SpanNode], survived_ns: int | None = None) -> None:
    """Set `error` of each node, given depth first, and count origins up to the roots.

    Args:
        nodes: of a tree.
        survived_ns: see `SpanTree.build`.
    """
    leaves_root: set[int] = set()
    repeated: set[int] = set()
    for node in nodes:
        if node.record.status != "error":
            continue
        if id(node) in repeated:
            node.error = "propagated"
            continue
        uncaught = id(node) in leaves_root or (node.parent is None and not _survived(node, survived_ns))
        passed_on = _passed_on(node)
        if passed_on and _tells(node) and all(map(_only_failed, passed_on)):
            repeated.update(map(id, passed_on))
            passed_on = []
        if uncaught:
            leaves_root.update(map(id, passed_on))
        node.error = "propagated" if passed_on else ("uncaught" if uncaught else "caught")
    for node in reversed(nodes):
        node.errors += node.error == "uncaught"
        node.caught += node.error == "caught"
        if node.parent is not None:
            node.parent.errors += node.errors
            node.parent.caught += node.caught


def _survived(root: SpanNode, survived_ns: int | None) -> bool:
    return survived_ns is not None and root.end_ns <= survived_ns


def _passed_on(node: SpanNode) -> list[SpanNode]:
    """The children whose error became this node's; the other failing children were caught, for a retry perhaps.

    It is the same error if type and message are equal. Without such a child, an error was turned into another one
    (`raise X from e`) only if nothing was tried after it. Failures that overlap in time, as under `gather`, go as one.
    """
    failing = [child for child in node.children if child.record.status == "error"]
    if not failing:
        return []
    said = _what(node)
    passed = [child for child in failing if said is not None and _what(child) == said]
    if not passed and node.children[-1].start_ns <= max(child.end_ns for child in failing):
        passed = failing
    last_start = max((child.start_ns for child in passed), default=0)
    return [child for child in passed if child.end_ns > last_start or child.start_ns == last_start]


def _tells(node: SpanNode) -> bool:
    error = node.record.error
    return error is not None and bool(error.message)


def _only_failed(node: SpanNode) -> bool:
    """Whether an HTTP request has nothing to say but that it failed: the client above it says how."""
    below = any(child.record.status == "error" for child in node.children)
    return node.record.facts.kind == "http" and not _tells(node) and not below


def _what(node: SpanNode) -> tuple[str, str] | None:
    error = node.record.error
    return None if error is None else (error.type, error.message)
