"""Two runs of a made-up program with a known edit between them, and which spans are the same call.

`edited(kind, seed)` makes a tree of steps at random, edits it, and builds the records of both. Each step has a number
that an edit keeps, so that a test can count the pairs that were found and those that are wrong.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hh_jupyter.conventions import describe
from hh_jupyter.records.calls import SpanKey, key_of
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.record import SpanDetails, SpanError, SpanRecord
from hh_jupyter.records.tree import SpanTree
from tests.records.builders import MS, START

NAMES = {
    "agent": ("support_agent", "researcher", "planner"),
    "llm": ("plan", "decide", "write_reply", "summarise"),
    "tool": ("get_order", "check_limit", "issue_refund", "search", "send_mail"),
    "http": ("GET /orders", "POST /refunds"),
    "chain": ("prepare", "rank", "merge", "validate"),
}
WORDS = (
    "order", "refund", "customer", "policy", "limit", "lid", "cracked", "money", "card", "number", "answer", "quote",
    "sentence", "friendly", "agent", "search", "index", "result", "vector", "chunk", "text", "please", "within", "days",
    "photo", "carrier", "question", "reference", "account", "invoice",
)  # fmt: skip


@dataclass
class Step:
    """A step of the program.

    Attributes:
        number: identifies the step in both runs.
        request, answer: its content: the attributes of a span.
        parallel: its children run at the same time.
    """

    number: int
    name: str
    kind: str
    request: dict[str, Any]
    answer: dict[str, Any]
    children: list[Step] = field(default_factory=list)
    parallel: bool = False
    failed: bool = False

    def each(self) -> Iterator[Step]:
        """This step and those below, depth first."""
        yield self
        for child in self.children:
            yield from child.each()


class Program:
    """Makes steps at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made = 0

    def text(self, words: int = 12) -> str:
        """A text of random words."""
        return " ".join(self.random.choice(WORDS) for _ in range(words)) + f" {self.random.randrange(10**6)}"

    def step(self, kind: str, name: str | None = None) -> Step:
        """A step without children."""
        self.made += 1
        name = name or self.random.choice(NAMES[kind])
        if kind == "llm":
            request = {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-4.1",
                "gen_ai.request.temperature": 0.7,
                "gen_ai.input.messages": [("system", f"You do {name}. {self.text(20)}"), ("user", self.text())],
            }
            return Step(self.made, name, kind, request, {"gen_ai.output.messages": [("assistant", self.text(20))]})
        inputs, outputs = {"honeyhive_inputs.value": self.text(6)}, {"honeyhive_outputs.result": self.text(6)}
        return Step(self.made, name, kind, inputs, outputs)

    def tree(self, size: int) -> Step:
        """A tree of so many steps: agents and chains with calls below, some repeated, some parallel."""
        root = self.step("agent")
        groups = [root]
        while self.made < size:
            above = self.random.choice(groups[-8:])
            kind = self.random.choice(("llm", "tool", "tool", "chain", "http"))
            for _ in range(self.random.choice((1, 1, 1, 2, 4))):
                above.children.append(made := self.step(kind, self.random.choice(NAMES[kind])))
                if kind in ("chain", "tool"):
                    groups.append(made)
        for step in root.each():
            step.parallel = self.random.random() < 0.15
        return root


class Edited(NamedTuple):
    """Two runs, and the numbers of the steps by span."""

    old: SpanTree
    new: SpanTree
    details: Mapping[SpanKey, SpanDetails]
    numbers: Mapping[SpanKey, int]
    same: frozenset[int]

    def diff(self) -> TreeDiff:
        """The difference of both runs."""
        return TreeDiff(self.old, self.new, lambda records: {key_of(one): self.details[key_of(one)] for one in records})

    def score(self, diff: TreeDiff) -> tuple[float, float]:
        """Recall and precision: the share of the true pairs that were found, and of the found pairs that are true."""
        pairs = [(row.old.record, row.new.record) for row in diff.rows if row.old and row.new]
        found = [(self.numbers[key_of(old)], self.numbers[key_of(new)]) for old, new in pairs]
        right = sum(old == new for old, new in found)
        return right / max(len(self.same), 1), right / max(len(found), 1)


def _messages(pairs: Sequence[tuple[str, str]]) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in pairs])


def records(root: Step, trace: int) -> Iterator[tuple[SpanRecord, SpanDetails, int]]:
    """The records of a run, with their details and the numbers of their steps."""
    clock, ids = [START], iter(range(1, 10**9))

    def run(step: Step, parent: int | None, start: int) -> Iterator[tuple[SpanRecord, SpanDetails, int]]:
        span_id, now = next(ids), start + MS
        below = []
        for child in step.children:
            made = list(run(child, span_id, now))
            below += made
            now = now + MS if step.parallel else max(record.end_ns or 0 for record, _, _ in made) + MS
        end = max((record.end_ns or 0 for record, _, _ in below), default=now) + MS
        attributes = {
            key: _messages(value) if isinstance(value, list) else value
            for key, value in {**step.request, **step.answer}.items()
        }
        facts = describe(step.name, {**attributes, "honeyhive_event_type": step.kind}, (), start, "")
        error = SpanError("HTTPError", "503") if step.failed else None
        status = "error" if step.failed else "ok"
        record = SpanRecord(trace, span_id, parent, step.name, start, end, status, facts, error=error)  # type: ignore[arg-type]
        yield record, SpanDetails(attributes), step.number
        yield from below

    yield from run(root, None, clock[0])


# The edits. Each changes the tree in place.


def _inner(root: Step, program: Program) -> Step:
    """A step with several children."""
    return program.random.choice([step for step in root.each() if len(step.children) > 1] or [root])


def unchanged(root: Step, program: Program) -> None:
    """Run it once more."""


def renamed(root: Step, program: Program) -> None:
    """Rename functions that call others."""
    inner = [step for step in root.each() if step.children]
    for step in program.random.sample(inner, min(2, len(inner))):
        step.name += "_v2"


def renamed_leaf(root: Step, program: Program) -> None:
    """Rename a function that calls no others."""
    program.random.choice([step for step in root.each() if not step.children]).name = "a_new_name"


def reordered(root: Step, program: Program) -> None:
    """Call the same functions in another order."""
    program.random.shuffle(_inner(root, program).children)


def retried(root: Step, program: Program) -> None:
    """Some calls fail once or twice before they succeed."""
    above = [step for step in root.each() if step.children]
    for step in program.random.sample(above, min(3, len(above))):
        place = program.random.randrange(len(step.children))
        for _ in range(program.random.choice((1, 2))):
            step.children.insert(place, tried := copy.deepcopy(step.children[place]))
            for one in tried.each():
                program.made += 1
                one.number = program.made
            tried.failed, tried.answer, tried.children = True, {}, []


def added(root: Step, program: Program) -> None:
    """Call functions that were not called before."""
    for _ in range(3):
        step = _inner(root, program)
        kind = program.random.choice(("llm", "tool", "http"))
        step.children.insert(program.random.randrange(len(step.children) + 1), program.step(kind))


def removed(root: Step, program: Program) -> None:
    """Some functions are no longer called."""
    for _ in range(3):
        if (step := _inner(root, program)).children:
            step.children.pop(program.random.randrange(len(step.children)))


def parallel(root: Step, program: Program) -> None:
    """Calls that run at the same time start in another order."""
    for step in root.each():
        if program.random.random() < 0.5:
            step.parallel = True
            program.random.shuffle(step.children)


def moved(root: Step, program: Program) -> None:
    """A function is called by another one."""
    if not (step := _inner(root, program)).children:
        return
    taken = step.children.pop(program.random.randrange(len(step.children)))
    inside = {id(one) for one in taken.each()}
    others = [one for one in root.each() if one is not step and id(one) not in inside]
    program.random.choice(others or [root]).children.append(taken)


def wrapped(root: Step, program: Program) -> None:
    """A decorator is put around some calls, up to five levels deep."""
    if not (step := _inner(root, program)).children:
        return
    start = program.random.randrange(len(step.children))
    outer = inner = program.step("chain", "with_cache")
    for level in range(program.random.randrange(5)):
        inner.children.append(inner := program.step("chain", f"wrapper_{level}"))
    inner.children, step.children[start:] = step.children[start:], [outer]


def unwrapped(root: Step, program: Program) -> None:
    """A function is removed, and what it called is called by its caller."""
    inner = [(step, child) for step in root.each() for child in step.children if child.children]
    if inner:
        step, child = program.random.choice(inner)
        place = step.children.index(child)
        step.children[place : place + 1] = child.children


def prompts(root: Step, program: Program) -> None:
    """Change the prompts and the temperature: all answers differ."""
    for step in root.each():
        if step.kind == "llm":
            (role, system), user = step.request["gen_ai.input.messages"]
            step.request["gen_ai.input.messages"] = [(role, f"{system} Answer in two sentences."), user]
            step.request["gen_ai.request.temperature"] = 0.2
            step.answer = {"gen_ai.output.messages": [("assistant", program.text(20))]}


def answers(root: Step, program: Program) -> None:
    """Every answer differs, and what follows from it: inputs keep most of their words."""
    for step in root.each():
        if step.kind == "llm":
            step.answer = {"gen_ai.output.messages": [("assistant", program.text(20))]}
        else:
            step.request = {key: f"{value} again" for key, value in step.request.items()}
            step.answer = {"honeyhive_outputs.result": program.text(6)}


def wrapped_with_other_prompts(root: Step, program: Program) -> None:
    """Two edits at once."""
    prompts(root, program)
    wrapped(root, program)


def retried_and_added(root: Step, program: Program) -> None:
    """Two edits at once."""
    retried(root, program)
    added(root, program)


EDITS: tuple[Callable[[Step, Program], None], ...] = (
    unchanged, renamed, renamed_leaf, reordered, retried, added, removed, parallel, moved, wrapped, unwrapped, prompts,
    answers, wrapped_with_other_prompts, retried_and_added,
)  # fmt: skip


def edited(edit: Callable[[Step, Program], None], seed: int, size: int = 60) -> Edited:
    """Make a program of so many steps, and run it before and after an edit."""
    program = Program(seed)
    before = program.tree(size)
    after = copy.deepcopy(before)
    edit(after, program)
    runs = [list(records(before, 1)), list(records(after, 2))]
    numbers = [{number for _, _, number in run} for run in runs]
    return Edited(
        SpanTree.build(record for record, _, _ in runs[0]),
        SpanTree.build(record for record, _, _ in runs[1]),
        {key_of(record): details for run in runs for record, details, _ in run},
        {key_of(record): number for run in runs for record, _, number in run},
        frozenset(numbers[0] & numbers[1]),
    )
