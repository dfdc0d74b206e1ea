"""Spans: decorators, enrichment, event types, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import NO_ECHO, NO_ESCAPED, NO_TWIN, ONE_EVENT, OWN_ID, TRACE_MOVES, Deviation

FREE_OF_NONE: Final = Deviation(
    'span *: attributes.honeyhive_inputs.*: "None" -> absent', "An argument that is None is not the text None."
)
TEXT_OF_VALUES: Final = (
    "Values that are no JSON become their plain text, or the JSON of what they hold, without extra quotes."
)
DECIDED_AT_END: Final = "The type is decided when the span has ended, from the name and attributes it has then."
STATIC: Final = "trace_class leaves static and class methods callable."
CANCELLED: Final = (
    "A span that Ctrl-C, a cancellation or sys.exit(3) ended is no success: it has a status and its text."
)
GENERATORS: Final = (
    "The span of a generator lasts until the iteration ends: it has what was yielded, the error, and children."
)

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "enrich_span_context": (
        OWN_ID,
        ONE_EVENT,
        Deviation("span fails: events.2.*: * -> absent", "The same."),
        NO_ESCAPED,
        Deviation("span *: attributes.honeyhive.tracer_version: * -> absent", "It is the version of the span's scope."),
        Deviation(
            'span override: attributes.*.session_id: "<session startup>" -> "<id in span override *>"', TRACE_MOVES
        ),
        Deviation('span override: attributes.*.{project|source}: {"shop" -> "p2"|"dev" -> "s2"}', TRACE_MOVES),
    ),
    "enrich_span_namespaces": (
        OWN_ID,
        Deviation(
            "call PUT /events: body.metadata.{inputs.i|error}: absent -> *",
            "enrich_span(event_id=...) keeps inputs and error, as metadata since an update has no such fields.",
        ),
        Deviation(
            "observed: {no_active_span_method|no_active_span_free}: true -> false",
            "Without an active span nothing is enriched, and that is what is returned.",
        ),
    ),
    "enrich_span_values": (
        OWN_ID,
        Deviation(
            'span values: attributes.honeyhive_metadata.{nan|inf}: * -> {"NaN"|Infinity}',
            "Protobuf carries them as the numbers that they are.",
        ),
        Deviation(
            "span values: attributes.honeyhive_metadata.{date|decimal|enum|object|set|bytes}: * -> *", TEXT_OF_VALUES
        ),
        Deviation(
            'span hostile: attributes.honeyhive_metadata.bad: absent -> "<Hostile without text>"',
            "A value whose text cannot be made is named instead of left out.",
        ),
        Deviation(
            'span cyclic: attributes.honeyhive_metadata.self: absent -> "<cycle>"',
            "A cyclic dict is cut instead of refused.",
        ),
        Deviation("observed: cyclic: false -> true", "The same."),
        Deviation(
            'span huge int: attributes.honeyhive_metadata.n: * -> "1000000000000000000000000000000"',
            "A whole number of more than 64 bits fits no OTLP number: a backend would refuse the request.",
        ),
        Deviation("observed: not_dict_inputs: false -> true", "The text is recorded, so the call did something."),
    ),
    "event_type_rules": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            'span {google search|html_parse|palmtree}: attributes.honeyhive_event_type: "model" -> "tool"',
            "Words in names are matched as words, not as any part of a name.",
        ),
        Deviation(
            'span attr f: attributes.honeyhive_event_type: "tool" -> "chain"',
            "traceloop.span.kind says workflow: OpenLLMetry's spans are understood.",
        ),
        Deviation('span explicit tool chat: attributes.honeyhive_event_type: "model" -> "tool"', "Explicit types win."),
        Deviation('span explicit dot: attributes.honeyhive_event_type: "tool" -> "chain"', "In either spelling."),
        Deviation(
            'span late attributes: attributes.honeyhive_event_type: "tool" -> "model"',
            DECIDED_AT_END,
        ),
    ),
    "many_attributes": (
        Deviation(
            "observed: exported_attribute_counts.second *: absent -> *",
            "Every tracer keeps as many attributes as the first.",
        ),
        Deviation(
            "observed: exported_attribute_counts.first 1100: absent -> *",
            "A span above the limit is cut and marked, not lost.",
        ),
        Deviation(
            "observed: exported_attribute_counts.first 1010: 1016 -> 1015", "1010 and the five that are stamped."
        ),
    ),
    "span_filters": (
        OWN_ID,
        Deviation(
            'span keep child {exclude|include}: parent: "<remote>" -> "keep {exclude|include}"',
            "A child of a filtered span hangs from the nearest ancestor that is kept.",
        ),
        Deviation(
            "observed: !raised: absent -> *SettingError*",
            "A filter that does not exist is an error; the calls after it are not made.",
        ),
        Deviation("call POST /session/start: missing", "The same."),
        Deviation("span {keep|keep child|noise|noise root|other} {regex|empty}: missing", "The same."),
        Deviation("observed: {regex|empty}: true -> absent", "The same."),
    ),
    "start_span_options": (
        OWN_ID,
        ONE_EVENT,
        NO_ESCAPED,
        Deviation("span attributes: attributes.{a_b|c_d|attr_9x}: * -> absent", "Attributes are written once."),
        Deviation(
            'span attributes: attributes.list*: {"[1, 2]" -> absent|absent -> 1|absent -> 2}', "A list stays a list."
        ),
        Deviation("span base exception: {status|events|attributes.honeyhive_metadata.hh_cancelled}*", CANCELLED),
        Deviation("span raises no event: events*: {* -> absent|absent -> []}", "record_exception=False works."),
        Deviation("span raises no status: status.{code|message}: *", "set_status_on_exception=False works."),
    ),
    "third_party_late_type": (
        OWN_ID,
        Deviation(
            'span {POST /v1/messages|chat completion}: attributes.honeyhive_event_type: "tool" -> "model"',
            DECIDED_AT_END,
        ),
    ),
    "third_party_spans": (OWN_ID,),
    "trace_async": (OWN_ID, NO_ECHO),
    "trace_class_methods": (
        OWN_ID,
        NO_ECHO,
        NO_TWIN,
        Deviation("span Service.{fixed|made}: {status|events|attributes}*", STATIC),
        Deviation('observed: {fixed|made}: "TypeError" -> 5', STATIC),
    ),
    "trace_exceptions": (
        OWN_ID,
        NO_ECHO,
        ONE_EVENT,
        NO_ESCAPED,
        NO_TWIN,
        Deviation("observed: async.2: true -> false", "An exception is not its own cause."),
        Deviation("observed: user_function_ran: 2 -> 1", "The user's function runs once, whatever its error says."),
        Deviation("span exits: {status|events|attributes.honeyhive_metadata.hh_cancelled}*", CANCELLED),
    ),
    "trace_generators": (
        OWN_ID,
        NO_ECHO,
        Deviation("span {numbers|anumbers|failing}: attributes.honeyhive_outputs.result*: *", GENERATORS),
        Deviation('span inside numbers *: parent: null -> "numbers"', GENERATORS),
        Deviation("span failing: {status|events|attributes.honeyhive_duration_ms}*: *", GENERATORS),
    ),
    "trace_nesting": (OWN_ID, NO_ECHO),
    "trace_parameters": (
        OWN_ID,
        NO_ECHO,
        Deviation("span span_config: attributes.honeyhive_span_config.model: * -> absent", "Written once, as config."),
        Deviation('span everything: attributes.*.{project|source}: {"shop" -> "proj"|"dev" -> "src"}', TRACE_MOVES),
        Deviation("span {tags|user_properties|config}: unexpected", "The documented parameters work."),
        Deviation('observed: {tags|user_properties|config}: "TypeError" -> 1', "The same."),
        Deviation('observed: custom: "TypeError" -> "SettingTypeError"', "A TypeError that names the parameter."),
    ),
    "trace_sync": (
        OWN_ID,
        NO_ECHO,
        FREE_OF_NONE,
        Deviation(
            'span *: attributes.honeyhive_inputs.{rest|obj}: * -> {"[6, 7]"|"[1]"}',
            "Tuples and sets are written as JSON, like results.",
        ),
    ),
}
