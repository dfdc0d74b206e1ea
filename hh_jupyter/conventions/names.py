"""The name under which a span is shown, where its own says nothing: a template, or the same for every tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter.conventions.facts import first_of

_MESSAGE: Final = "logfire.msg"
"""The name of a span of Logfire's and of Pydantic AI's with its values filled in."""

_TOOL: Final = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "tool_name", "traceloop.entity.name")
_AGENT: Final = ("gen_ai.agent.name", "agent.name", "agent_name")
_UNTOLD: Final = {
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
"""Names that spans of any tool or agent have, and the attributes that name it."""


def readable_name(name: str, attributes: Mapping[str, Any]) -> str:
    """The name to show for a span: its own, unless that is a template or common to all tools or agents.

    Args:
        name: of the span.
        attributes: of the span, redacted.
    """
    named_by = _UNTOLD.get(name)
    if named_by is None and "{" not in name:
        return name
    found = attributes.get(_MESSAGE) or (first_of(attributes, named_by) if named_by else None)
    return found if isinstance(found, str) and found else name
