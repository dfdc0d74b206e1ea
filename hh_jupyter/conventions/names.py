"""The display name of a span whose own name is a template or the same for every tool or agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter.conventions.facts import first_of

_MESSAGE: Final = "logfire.msg"
"""The name of a Logfire or Pydantic AI span with its values filled in."""

_TOOL: Final = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "tool_name", "traceloop.entity.name")
_AGENT: Final = ("gen_ai.agent.name", "agent.name", "agent_name")
_GENERIC_NAMES: Final = {
    **dict.fromkeys(
        (
            "running tool", "running tools", "running output function", "execute_tool", "Tool Execution", "ai.toolCall",
            "SimpleTool", "Tool", "StructuredTool", "FunctionTool", "FunctionTool.call", "FunctionTool.acall",
            "FunctionTool.run_json", "CrewStructuredTool", "CrewStructuredTool.invoke", "BaseTool.run",
            "ToolUsage._use",
        ),
        _TOOL,
    ),
    **dict.fromkeys(("agent run", "invoke_agent", "create_agent"), _AGENT),
}  # fmt: skip
"""Span name common to all tools or agents -> attributes with the specific name."""


def readable_name(name: str, attributes: Mapping[str, Any]) -> str:
    """The display name of a span: its own name, unless that is a template or common to all tools or agents.

    Args:
        name: of the span.
        attributes: of the span, redacted.
    """
    name_keys = _GENERIC_NAMES.get(name)
    if name_keys is None and "{" not in name:
        return name
    found = attributes.get(_MESSAGE) or (first_of(attributes, name_keys) if name_keys else None)
    return found if isinstance(found, str) and found else name
