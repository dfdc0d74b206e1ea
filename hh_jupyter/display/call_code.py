"""The code of a call that was recorded: a model's, by the provider's client, or a tool's. It runs as it is.

"Copy as Python" and `%hh edit` use it. Values are literals, or variables of the user's where a long one is equal.
"""

from __future__ import annotations

import pprint
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import Any, Final, Literal, NamedTuple

from hh_jupyter.conventions import content
from hh_jupyter.conventions.attachments import Attachment, attachment_of
from hh_jupyter.conventions.facts import Message, SpanContent, mapping
from hh_jupyter.display import media
from hh_jupyter.display.format import count
from hh_jupyter.records.record import CALL_KINDS, SpanDetails, SpanRecord
from hh_jupyter.values import json_text

WIDTH: Final = 100
MIN_VARIABLE_LENGTH: Final = 40
"""Shortest text or literal, in characters, that a variable stands for: short values are equal by chance."""

_MAX_DEPTH: Final = 40

Names = Mapping[str, Any]
"""Variables of the user's namespace."""


def call_code(record: SpanRecord, details: SpanDetails, names: Names | None = None) -> str:
    """Return code that makes a model call or a tool call again; empty for other spans, and without its messages.

    Args:
        record: the span.
        details: its content.
        names: variables that may stand for values: the first one of this name that holds a long text, list or dict
            that is equal, and a client of the API. Without them, all values are literals.
    """
    if record.facts.kind == "tool":
        return _tool_code(record, content(details.attributes, details.events), _Values(names or {}))
    request = recorded_request(record, details)
    return request.code(names) if request is not None else ""


# Tools: the call of the user's function.


def _tool_code(record: SpanRecord, call: SpanContent, values: _Values) -> str:
    name = record.facts.tool_name or call.tool_name or record.name
    parts = name.split(".")
    if not all(map(_is_name, parts)):
        return f"# The arguments of the tool:\narguments = {values.code(call.input)}" if call.input is not None else ""
    module = next((found for n in range(len(parts) - 1, 0, -1) if (found := ".".join(parts[:n])) in sys.modules), None)
    imported = [f"import {module}"] if module is not None else []
    return "\n".join(["# The same call again:", *imported, _call_code(".".join(parts), call.input, values)])


def _call_code(function: str, argument: Any, values: _Values) -> str:
    """Return a call with keyword arguments, or with one argument if they have no names."""
    if argument is None or argument == {}:
        return f"{function}()"
    if isinstance(argument, Mapping) and all(map(_is_name, argument)):
        lines = [f"    {name}={values.code(value)}," for name, value in argument.items()]
        return "\n".join([f"{function}(", *lines, ")"])
    return f"{function}({'**' if isinstance(argument, Mapping) else ''}{values.code(argument)})"


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not iskeyword(name)


# Model calls: the request to the provider.


class _Api(NamedTuple):
    """One of the providers' APIs.

    Attributes:
        function: the method of the client.
        modules: imported to make a client.
        client: makes a client whose key is in the environment.
        classes: names of the classes of clients, in the first package of `modules`; those of async clients.
        parameters: those that the method takes, or its `config`.
        renamed: parameters that instrumentors write under another name.
        stream: the method for streams; None where it is the same with `stream=True`.
        config: the parameter that holds all others than model and contents; None if there is none.
        chunk: where a chunk of a stream holds a part of the answer's text.
        chunk_type: the type of such a chunk; None if chunks have no type.
    """

    function: str
    modules: tuple[str, ...]
    client: str
    classes: tuple[frozenset[str], frozenset[str]]
    parameters: frozenset[str]
    renamed: Mapping[str, str]
    stream: str | None = None
    config: str | None = None
    chunk: str = "choices.0.delta.content"
    chunk_type: str | None = None


_SHARED: Final = frozenset(
    {
        "extra_body", "extra_headers", "extra_query", "metadata", "model", "service_tier", "stream", "temperature",
        "timeout", "tool_choice", "tools", "top_p",
    }
)  # fmt: skip
_OPENAI: Final = _SHARED | {
    "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "store", "stream_options", "top_logprobs", "user",
}  # fmt: skip
_OPENAI_CLIENTS: Final = frozenset({"OpenAI", "AzureOpenAI"}), frozenset({"AsyncOpenAI", "AsyncAzureOpenAI"})
_CHAT: Final = _Api(
    "chat.completions.create",
    ("openai",),
    "openai.OpenAI()",
    _OPENAI_CLIENTS,
    _OPENAI | {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "modalities", "n", "prediction", "presence_penalty", "reasoning_effort",
        "response_format", "seed", "stop", "verbosity", "web_search_options",
    },
    {"stop_sequences": "stop", "choice.count": "n", "max_output_tokens": "max_completion_tokens"},
)  # fmt: skip
_AZURE_CHAT: Final = _CHAT._replace(client="openai.AzureOpenAI()")
_RESPONSES: Final = _Api(
    "responses.create",
    ("openai",),
    "openai.OpenAI()",
    _OPENAI_CLIENTS,
    _OPENAI | {
        "background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls",
        "previous_response_id", "prompt", "reasoning", "text", "truncation",
    },
    {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"},
    chunk="delta",
    chunk_type="response.output_text.delta",
)  # fmt: skip
_EMBEDDINGS: Final = _Api(
    "embeddings.create",
    ("openai",),
    "openai.OpenAI()",
    _OPENAI_CLIENTS,
    frozenset({"dimensions", "encoding_format", "extra_headers", "input", "model", "timeout", "user"}),
    {},
)
_AZURE_EMBEDDINGS: Final = _EMBEDDINGS._replace(client="openai.AzureOpenAI()")
_AZURE_RESPONSES: Final = _RESPONSES._replace(client="openai.AzureOpenAI()")
_ANTHROPIC: Final = _Api(
    "messages.create",
    ("anthropic",),
    "anthropic.Anthropic()",
    (frozenset({"Anthropic"}), frozenset({"AsyncAnthropic"})),
    _SHARED | {"container", "max_tokens", "messages", "stop_sequences", "system", "thinking", "top_k"},
    {"stop": "stop_sequences", "max_completion_tokens": "max_tokens"},
    chunk="delta.text",
    chunk_type="content_block_delta",
)
_GOOGLE: Final = _Api(
    "models.generate_content",
    ("google.genai",),
    "google.genai.Client()",
    (frozenset({"Client"}), frozenset()),
    frozenset(
        {
            "candidate_count", "contents", "frequency_penalty", "max_output_tokens", "model", "presence_penalty",
            "response_mime_type", "response_schema", "seed", "stop_sequences", "system_instruction", "temperature",
            "thinking_config", "tool_config", "tools", "top_k", "top_p",
        }
    ),
    {"max_tokens": "max_output_tokens", "stop": "stop_sequences", "choice.count": "candidate_count"},
    stream="models.generate_content_stream",
    config="config",
    chunk="candidates.0.content.parts.0.text",
)  # fmt: skip
_MISTRAL: Final = _Api(
    "chat.complete",
    ("mistralai", "os"),
    "mistralai.Mistral(api_key=os.environ['MISTRAL_API_KEY'])",
    (frozenset({"Mistral"}), frozenset()),
    frozenset(
        {
            "frequency_penalty", "max_tokens", "messages", "metadata", "model", "n", "parallel_tool_calls",
            "prediction", "presence_penalty", "random_seed", "response_format", "safe_prompt", "stop", "temperature",
            "tool_choice", "tools", "top_p",
        }
    ),
    {"seed": "random_seed", "stop_sequences": "stop", "choice.count": "n", "max_completion_tokens": "max_tokens"},
    stream="chat.stream",
    chunk="data.choices.0.delta.content",
)  # fmt: skip
_COHERE: Final = _Api(
    "chat",
    ("cohere",),
    "cohere.ClientV2()",
    (frozenset({"ClientV2"}), frozenset({"AsyncClientV2"})),
    frozenset(
        {
            "documents", "frequency_penalty", "k", "logprobs", "max_tokens", "messages", "model", "p",
            "presence_penalty", "response_format", "safety_mode", "seed", "stop_sequences", "strict_tools",
            "temperature", "thinking", "tool_choice", "tools",
        }
    ),
    {"stop": "stop_sequences", "top_p": "p", "top_k": "k", "max_completion_tokens": "max_tokens"},
    stream="chat_stream",
    chunk="delta.message.content.text",
    chunk_type="content-delta",
)  # fmt: skip
_GROQ: Final = _CHAT._replace(
    modules=("groq",), client="groq.Groq()", classes=(frozenset({"Groq"}), frozenset({"AsyncGroq"}))
)
_BY_PROVIDER: Final[Mapping[str, _Api]] = {
    "anthropic": _ANTHROPIC,
    **dict.fromkeys(
        ("google", "gemini", "gcp.gen_ai", "gcp.gemini", "gcp.vertex_ai", "vertexai", "google_genai"), _GOOGLE
    ),
    **dict.fromkeys(("mistral_ai", "mistralai", "mistral"), _MISTRAL),
    "cohere": _COHERE,
    "groq": _GROQ,
}
_AZURE: Final = frozenset({"azure", "azure.ai.openai", "azure.openai", "az.ai.openai"})
_OPENAI_PROVIDERS: Final = frozenset({None, "openai"}) | _AZURE
_RESPONSE_NAME: Final = re.compile(r"(?:^|[\s._])responses?(?:$|[\s._])", re.IGNORECASE)
_OBJECTS: Final = frozenset({"response_format", "text", "reasoning", "stream_options", "thinking", "metadata"})
"""Parameters that are objects; some instrumentors record only a word of them."""

MAX_TOKENS: Final = 1024
"""Used for a call of Anthropic's API, which requires the parameter, if it was not recorded."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """The request of a model call, as arguments of the client's method.

    Attributes:
        arguments: JSON values by name; with Google's client also those inside `config`.
        others: what was recorded as well, but is no parameter of the API.
        remarks: what the arguments cannot express, a sentence each.
        streamed: the answer was streamed, by a method of its own.
    """

    api: _Api
    arguments: Mapping[str, Any]
    others: Mapping[str, Any]
    remarks: tuple[str, ...]
    streamed: bool

    @property
    def function(self) -> str:
        """The client's method. Example: "chat.completions.create"."""
        return self.api.function

    @property
    def package(self) -> str:
        """The package of the client. Example: "openai"."""
        return self.api.modules[0]

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the arguments that the method takes."""
        return self.api.parameters

    @property
    def messages_in(self) -> str:
        """The name of the argument that holds the messages."""
        return _content_name(self.api)

    @property
    def system_in(self) -> str | None:
        """The name of the argument that holds the system prompt; None if it is one of the messages."""
        return next((name for name in _SYSTEM_NAMES if name in self.api.parameters), None)

    def with_arguments(self, arguments: Mapping[str, Any]) -> RecordedRequest:
        """Return the request with other arguments."""
        return replace(self, arguments=arguments)

    def client_kind(self, kind: type) -> Literal["sync", "async"] | None:
        """Return which client of the API a class is; None if it is none. Runs no code of the class."""
        names = [one.__name__ for one in kind.__mro__ if f"{one.__module__}.".startswith(f"{self.package}.")]
        sync, asynchronous = (not classes.isdisjoint(names) for classes in self.api.classes)
        return "sync" if sync else "async" if asynchronous else None

    def chunk_text(self, chunk: Any) -> str:
        """Return the part of the answer's text in a chunk of a stream; empty if it holds something else."""
        if self.api.chunk_type is not None and getattr(chunk, "type", None) != self.api.chunk_type:
            return ""
        found = chunk
        for name in self.api.chunk.split("."):
            if name.isdecimal():
                found = found[int(name)] if isinstance(found, list) and len(found) > int(name) else None
            else:
                found = getattr(found, name, None)
        return found if isinstance(found, str) else ""

    def code(self, names: Names | None = None, *, whole: bool = False) -> str:
        """Return code that makes the request.

        Args:
            names: variables that may stand for values, and for the client.
            whole: with base64, which is otherwise replaced by its type and size.
        """
        api, values = self.api, _Values(names or {}, whole=whole)
        arguments = dict(self.arguments)
        streams = self.streamed or bool(arguments.get("stream"))
        if api.config is not None:
            config = {name: arguments.pop(name) for name in tuple(arguments) if name not in ("model", "contents")}
            arguments |= {api.config: config} if config else {}
        client, is_async = self._client(values) or (None, False)
        imports = [f"import {module}" for module in api.modules] if client is None else []
        function = api.stream if streams and api.stream else api.function
        code = ("await " if is_async else "") + _call_code(f"{client or api.client}.{function}", arguments, values)
        if streams:  # Nothing is sent, and no span ends, before the stream is read.
            code = f"{'async ' if is_async else ''}for chunk in {code}:\n    print(chunk)"
        notes = [f"# {remark}" for remark in self.remarks]
        if self.others:
            lines = (
                line for name, value in self.others.items() for line in f"{name}={values.code(value)}".splitlines()
            )
            notes += ["# Recorded as well, but no parameters of this API:", *(f"#   {line}" for line in lines)]
        if has_media_label(code):
            notes.append("# Base64 data is left out; brackets hold its type and size.")
        return "\n".join(["# The same request again:", *imports, *notes, code])

    def _client(self, values: _Values) -> tuple[str, bool] | None:
        """Return the name of a variable that holds a client of the API, and whether it is async; None without one."""
        found = {name: kind for name, value in values.names.items() if (kind := self.client_kind(type(value)))}
        name = next((name for name in found if found[name] == "sync"), next(iter(found), None))
        return (name, found[name] == "async") if name is not None else None


_SYSTEM_NAMES: Final = ("system", "instructions", "system_instruction")


def recorded_request(record: SpanRecord, details: SpanDetails) -> RecordedRequest | None:
    """Return the request of a model call; None for other spans, and without its messages."""
    call, attributes = content(details.attributes, details.events), details.attributes
    is_embedding = record.facts.kind == "embedding"
    if record.facts.kind not in CALL_KINDS or not (_embedded(call.input) if is_embedding else call.input_messages):
        return None
    api = _api(record, call, attributes)
    request = dict(_client_arguments(attributes, api) or _rebuilt_request(record, call, api))
    if record.facts.streamed:
        request.setdefault("stream", True)  # Not recorded of a client's `stream()`, which sends it.
    streamed = api.stream is not None and bool(request.pop("stream", None))
    arguments, others = _arguments(request, api)
    remarks = _remarks(record, call, api)
    for name, value in _required(api).items():
        if name not in arguments:
            arguments[name] = value
            remarks.append(f"{name} is required; its value was not recorded.")
    return RecordedRequest(api, arguments, others, tuple(remarks), streamed)


def has_media_label(text: str) -> bool:
    """Whether a text holds what stands for an image or a file."""
    return _MEDIA_LABEL.search(text) is not None


_MEDIA_LABEL: Final = re.compile(r"\[\w+/[\w.+-]+, [^\]\n]+\]")
"""What stands for an image or a file: `[image/png, 68 B, 64×48]`."""


def _arguments(request: Mapping[str, Any], api: _Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the method takes of a request, and the rest."""
    arguments: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, recorded in request.items():
        value = _own_headers(recorded) if name == "extra_headers" else recorded
        if value is None:
            continue
        used = name if name in api.parameters else api.renamed.get(name, name)
        accepted = used in api.parameters and (used not in _OBJECTS or isinstance(value, Mapping))
        (arguments if accepted else others).setdefault(used if accepted else name, value)
    return arguments, others


def _required(api: _Api) -> dict[str, Any]:
    """Return the other parameters that the method requires, each with the value to use if it is unknown."""
    return {"model": "", **({"max_tokens": MAX_TOKENS} if api is _ANTHROPIC else {})}


def _own_headers(headers: Any) -> dict[str, Any] | None:
    """Return the headers without those that the client adds itself, such as for `with_raw_response`."""
    own = {name: value for name, value in mapping(headers).items() if not name.lower().startswith("x-stainless-")}
    return own or None


def _remarks(record: SpanRecord, call: SpanContent, api: _Api) -> list[str]:
    """Return what the code cannot express."""
    remarks = []
    if record.facts.provider not in _OPENAI_PROVIDERS | _BY_PROVIDER.keys():
        remarks.append(
            f"The provider was {record.facts.provider!r}; this is OpenAI's {api.function.split('.')[0]} API, "
            "which many offer at base_url=..."
        )
    if record.redacted:
        remarks.append(f"{count(record.redacted, 'value')} of the span were redacted and differ from what was sent.")
    if call.truncated:
        remarks.append(f"The span was too large: {call.truncated} left out, so the request may be incomplete.")
    return remarks


def _api(record: SpanRecord, call: SpanContent, attributes: Mapping[str, Any]) -> _Api:
    """The API that was called: chat completions if the span does not show another one."""
    facts = record.facts
    if facts.kind == "embedding":
        return _AZURE_EMBEDDINGS if facts.provider in _AZURE else _EMBEDDINGS
    if facts.provider not in _OPENAI_PROVIDERS:
        return _BY_PROVIDER.get(facts.provider or "", _CHAT)
    is_response = (
        attributes.get("openai.api.type") == "responses"
        or (facts.response_id or "").startswith("resp_")
        or _RESPONSE_NAME.search(record.name) is not None
        or not call.params.keys().isdisjoint({"max_output_tokens", "instructions", "previous_response_id"})
    )
    if facts.provider in _AZURE:
        return _AZURE_RESPONSES if is_response else _AZURE_CHAT
    return _RESPONSES if is_response else _CHAT


def _client_arguments(attributes: Mapping[str, Any], api: _Api) -> Mapping[str, Any]:
    """Return the arguments of the client, which OpenInference records as they are; empty if there are none."""
    request = mapping(attributes.get("input.value"))
    return request if isinstance(request.get("model"), str) and request.get(_content_name(api)) else {}


def _content_name(api: _Api) -> str:
    takes_input = api.function in (_RESPONSES.function, _EMBEDDINGS.function)
    return "input" if takes_input else "contents" if api is _GOOGLE else "messages"


def _rebuilt_request(record: SpanRecord, call: SpanContent, api: _Api) -> dict[str, Any]:
    """Return the arguments made from what the instrumentor recorded of them."""
    messages = [replace(message, parts=_parts(message, api)) for message in call.input_messages]
    model = record.facts.model_requested or record.facts.model
    if api.function == _EMBEDDINGS.function:
        content_arguments: dict[str, Any] = {"input": _embedded(call.input)}
    elif api is _ANTHROPIC:
        content_arguments = _anthropic(messages)
    elif api.function == _RESPONSES.function:
        content_arguments = _responses(messages, call.params.get("instructions"))
    elif api is _GOOGLE:
        content_arguments = _google(messages)
    else:
        content_arguments = {"messages": [_message(message) for message in messages]}
    tools = [_tool(tool, api) for tool in call.tools_offered if tool.get("name")]
    if tools and api is _GOOGLE:
        tools = [{"function_declarations": tools}]
    request = {"model": model, **content_arguments, **({"tools": tools} if tools else {})}
    return {**request, **{name: value for name, value in call.params.items() if name not in request}}


def _embedded(given: Any) -> Any:
    """Return what an embedding call takes: a text or a list; of the arguments of a function their texts."""
    if not isinstance(given, Mapping):
        return given
    return given.get("input") or [value for value in given.values() if isinstance(value, str)]


def _tool(tool: Mapping[str, Any], api: _Api) -> dict[str, Any]:
    named = {name: tool[name] for name in ("name", "description") if tool.get(name)}
    schema = tool.get("parameters") or {"type": "object", "properties": {}}
    if api is _ANTHROPIC:
        return {**named, "input_schema": schema}
    if api is _GOOGLE:
        upper = str(mapping(schema).get("type", "")).isupper()  # Google's own form of a schema.
        return {**named, "parameters" if upper else "parameters_json_schema": schema}
    function = {**named, "parameters": schema, **({"strict": tool["strict"]} if "strict" in tool else {})}
    return (
        {"type": "function", **function}
        if api.function == _RESPONSES.function
        else {"type": "function", "function": function}
    )


def _without_base64(value: Any, depth: int = 0) -> Any:
    """Return the value without base64."""
    if isinstance(value, str):
        return media.without_base64(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {name: _without_base64(item, depth + 1) for name, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_without_base64(item, depth + 1) for item in value]
    return value


def _parts(message: Message, api: _Api) -> tuple[Any, ...]:
    """Convert images to the format of the provider's API; other parts stay unchanged."""
    return tuple(_part(part, attachment_of(part), api) for part in message.parts)


def _part(part: Any, attachment: Attachment | None, api: _Api) -> Any:
    if attachment is None:
        return part
    if attachment.kind != "image":
        return f"[{media.label(attachment)}]" if attachment.data is not None else part
    source = attachment.uri or f"[{media.label(attachment)}]"
    if api.function == _RESPONSES.function:
        return {"type": "input_image", "image_url": source}
    if api is _GOOGLE:
        return {"file_data": {"file_uri": source}} if attachment.uri else {"text": source}
    if api is not _ANTHROPIC:
        return {"type": "image_url", "image_url": {"url": source}}
    if attachment.uri:
        return {"type": "image", "source": {"type": "url", "url": source}}
    return {"type": "image", "source": {"type": "base64", "media_type": attachment.mime, "data": source}}


def _message(message: Message) -> dict[str, Any]:
    """Convert a message to the format of OpenAI's chat API."""
    shown: dict[str, Any] = {"role": message.role, "content": _body(message)}
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json_text(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _anthropic(messages: Sequence[Message]) -> dict[str, Any]:
    """Convert messages for Anthropic's messages API: system prompt apart, tool calls and results as blocks."""
    system = [message.text for message in messages if message.role == "system" and message.text]
    turns = [_turn(message) for message in messages if message.role != "system"]
    return {**({"system": "\n\n".join(system)} if system else {}), "messages": turns}


def _responses(messages: Sequence[Message], instructions: Any) -> dict[str, Any]:
    """Convert messages for OpenAI's responses API: instructions apart, tool calls and results as items."""
    system = [message.text for message in messages if message.role == "system" and message.text]
    rest = [message for message in messages if message.role != "system"]
    given: dict[str, Any] = {"instructions": instructions or "\n\n".join(system)} if instructions or system else {}
    if len(rest) == 1 and rest[0] == Message("user", rest[0].text):
        return {"input": rest[0].text, **given}
    return {"input": [item for message in rest for item in _items(message)], **given}


def _items(message: Message) -> list[dict[str, Any]]:
    if message.tool_call_id:
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text or ""}]
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json_text(call.arguments)}
        for call in message.tool_calls
    ]
    if calls and not message.text:
        return calls
    text = [{"type": "input_text", "text": message.text}] if message.text else []
    body = [*text, *message.parts] if message.parts else message.text
    return [{"role": message.role, "content": body}, *calls]


def _turn(message: Message) -> Mapping[str, Any]:
    if message.tool_call_id:
        block = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text or ""}
        return {"role": "user", "content": [block]}
    calls = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in message.tool_calls]
    if not calls:
        return {"role": message.role, "content": _body(message)}
    text = [{"type": "text", "text": message.text}] if message.text else []
    return {"role": message.role, "content": [*text, *calls]}


def _body(message: Message) -> Any:
    if not message.parts:
        return message.text
    return [*([{"type": "text", "text": message.text}] if message.text else []), *message.parts]


def _google(messages: Sequence[Message]) -> dict[str, Any]:
    """Convert messages for Google's API: system prompt apart, tool calls and results as parts."""
    system = [message.text for message in messages if message.role == "system" and message.text]
    tools = {call.id: call.name for message in messages for call in message.tool_calls if call.id}
    contents = [
        {"role": "model" if message.role in ("assistant", "model") else "user", "parts": _google_parts(message, tools)}
        for message in messages
        if message.role != "system"
    ]
    return {"contents": contents, **({"system_instruction": "\n\n".join(system)} if system else {})}


def _google_parts(message: Message, tools: Mapping[str, str]) -> list[Any]:
    if message.tool_call_id:
        answer = mapping(message.text) or {"result": message.text or ""}
        name = tools.get(message.tool_call_id, message.tool_call_id)
        return [{"function_response": {"name": name, "response": answer}}]
    calls = [{"function_call": {"name": call.name, "args": call.arguments}} for call in message.tool_calls]
    text = [{"text": message.text}] if message.text else []
    return [*text, *(part if isinstance(part, Mapping) else {"text": str(part)} for part in message.parts), *calls]


# Values as code.


@dataclass(frozen=True, slots=True)
class _Variable:
    """Stands for a value in a literal: it is written as the name of a variable."""

    name: str

    def __repr__(self) -> str:
        return self.name


class _Values:
    """Writes values as literals, or as variables that hold an equal value.

    Args:
        names: the variables.
        whole: keep base64.

    Attributes:
        names: those with a public name.
    """

    def __init__(self, names: Names, *, whole: bool = False) -> None:
        self._whole = whole
        self.names = {name: value for name, value in names.items() if _is_name(name) and name[0] != "_"}
        self._texts: dict[str, str] = {}
        for name, value in self.names.items():
            if type(value) is str and len(value) >= MIN_VARIABLE_LENGTH:
                self._texts.setdefault(value, name)
        self._containers = [(name, value) for name, value in self.names.items() if type(value) in _CONTAINERS and value]

    def code(self, value: Any) -> str:
        """Return a value as code, indented as an argument of a call."""
        found = self._with_variables(value)
        found = found if self._whole else _without_base64(found)
        return pprint.pformat(found, width=WIDTH, sort_dicts=False).replace("\n", "\n    ")

    def _with_variables(self, value: Any, depth: int = 0) -> Any:
        if type(value) is str:
            return _Variable(self._texts[value]) if value in self._texts else value
        if type(value) not in (dict, list) or depth > _MAX_DEPTH:
            return value
        name = next((name for name, other in self._containers if _is_equal(value, other, 0)), None)
        if name is not None and len(repr(value)) >= MIN_VARIABLE_LENGTH:
            return _Variable(name)
        if isinstance(value, dict):
            return {key: self._with_variables(item, depth + 1) for key, item in value.items()}
        return [self._with_variables(item, depth + 1) for item in value]


_CONTAINERS: Final = (dict, list, tuple)
_PLAIN: Final = (str, int, float, bool, type(None))


def _is_equal(recorded: Any, other: Any, depth: int) -> bool:
    """Whether a user's value is the recorded one. Only plain data is compared, so that no code of the user's runs."""
    kind = type(other)
    if depth > _MAX_DEPTH or (kind not in _PLAIN and kind not in _CONTAINERS):
        return False
    if kind is dict:
        return (
            type(recorded) is dict
            and len(recorded) == len(other)
            and all(type(key) is str and key in recorded for key in other)
            and all(_is_equal(recorded[key], item, depth + 1) for key, item in other.items())
        )
    if kind is list or kind is tuple:
        same = type(recorded) is list and len(recorded) == len(other)
        return same and all(_is_equal(one, item, depth + 1) for one, item in zip(recorded, other, strict=True))
    return type(recorded) in _PLAIN and (type(recorded) is bool) is (kind is bool) and bool(recorded == other)
