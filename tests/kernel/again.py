"""The page's side of a model call that is made again."""

from __future__ import annotations

from typing import Any

from tests.kernel.driver import Kernel


class Page:
    """The page's side of a call that is made again: the last model span of a cell."""

    def __init__(self, kernel: Kernel, code: str, subshell: str | None = None) -> None:
        self.kernel, self.subshell = kernel, subshell
        self.cell = kernel.run(code, cell_id="cell-1")
        assert self.cell.reply == "ok", self.cell
        kernel.wait_for(lambda: kernel.comms == 2, "no hub")
        ids = "[f'{one.span_id:016x}' for one in hh.spans(kind='llm') if '.v' not in one.cell]"
        self.span = kernel.value(ids)[-1]
        self.numbers = 0
        self.request = self.ask("open")
        self.arguments = self.request["arguments"]

    def ask(self, action: str, arguments: Any = None) -> Any:
        self.numbers += 1
        number = self.numbers
        message = {"type": "again", "number": number, "view": "hh-cell-1", "span": self.span, "action": action}
        self.kernel.ask({**message, "arguments": arguments}, subshell=self.subshell)
        return self.message(type="answer", number=number)["value"]

    def run(self, **changes: Any) -> dict[str, Any]:
        started = self.ask("run", {**self.arguments, **changes})
        assert "problem" not in started, started
        return self.ended(started["number"])

    def ended(self, number: int) -> dict[str, Any]:
        self.kernel.wait_for(lambda: bool(self._variants(number)), f"variant {number} did not end")
        return dict(self._variants(number)[-1])

    def arriving(self, number: int) -> list[dict[str, Any]]:
        """What the page got of a variant before its end."""
        return [one for one in self._sent(number) if one["running"]]

    def _variants(self, number: int) -> list[dict[str, Any]]:
        return [one for one in self._sent(number) if not one["running"]]

    def _sent(self, number: int) -> list[dict[str, Any]]:
        sent = [one for one in self.kernel.hub_messages if one["type"] == "variant" and one["span"] == self.span]
        return [one["variant"] for one in sent if one["variant"]["number"] == number]

    def message(self, **fields: Any) -> dict[str, Any]:
        """The last message of the hub with these fields, once there is one."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.kernel.hub_messages if fields.items() <= one.items()]

        self.kernel.wait_for(lambda: bool(found()), f"no message {fields}")
        return found()[-1]


def texts(variant: dict[str, Any]) -> list[str]:
    return [message.get("text", "") for message in variant["answer"]]
