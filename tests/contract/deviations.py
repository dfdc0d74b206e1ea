"""Where this package does something else than the recorded client, on purpose: the one table, with reasons.

A replay may differ from its recording only by the deviations listed for the case, and each listed one must occur;
otherwise the test of that case fails. The recordings hold known faults of the client they were made with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Deviation:
    """An allowed difference.

    Attributes:
        what: a line of `tests.contract.comparison.differences`; `*` stands for any text, `{a|b}` for one of several.
        reason: what a user gains by it.
    """

    what: str
    reason: str

    def allows(self, difference: str) -> bool:
        """Whether the difference is the one this deviation is about."""
        pattern = re.escape(self.what).replace(r"\*", ".*")
        pattern = re.sub(r"\\\{(.*?)\\\}", lambda match: "(?:" + match[1].replace(r"\|", "|") + ")", pattern)
        return re.fullmatch(pattern, difference, re.DOTALL) is not None


OWN_ID: Final = Deviation(
    "call POST /session/start: body.session.session_id: absent -> *",
    "Session ids are drawn here and sent along, so that nobody waits for the backend to learn one.",
)
NO_ECHO: Final = Deviation(
    "span *: attributes.honeyhive_metadata."
    "{event_type|event_name|source|project|session_id|user_id|session_name}: * -> absent",
    "The parameters of @trace are fields of their own; repeated as metadata they are noise on every span.",
)
FREE_OF_NONE: Final = Deviation(
    'span *: attributes.honeyhive_inputs.*: "None" -> absent', "An argument that is None is not the text None."
)
ONE_EVENT: Final = Deviation("span *: events.1.*: * -> absent", "An exception is recorded once.")
NO_ESCAPED: Final = Deviation(
    'span *: events.0.attributes.exception.escaped: "False" -> absent',
    "OpenTelemetry's conventions have deprecated exception.escaped.",
)
NO_TWIN: Final = Deviation("span *_error: missing", "A failed function is one span, not a second one beside it.")
NO_TRACER_ADDRESS: Final = (
    "The session, project and source travel with every request, also from start_span and outside of spans; the memory "
    "address of a tracer does not."
)
BY_SOURCE: Final = "The source of a session is the source of its spans."
NO_NAME_IN_BAGGAGE: Final = "The name of a session stays out of the baggage, which travels to other services."
RESTORED: Final = "with_session restores the session of before: nested, after the block, after an exception."
TRACE_MOVES: Final = "session_id=, project= and source= of @trace decide where its span is filed."
TEXT_OF_VALUES: Final = (
    "Values that are no JSON become their plain text, or the JSON of what they hold, without extra quotes."
)
EVALUATOR_SPAN: Final = (
    "An evaluator's span is like that of any traced function: arguments by name, and what it returned. It is in the "
    "session of its data point, under the data point's span."
)
EVALUATE_TELLS: Final = "What a data point or an evaluator raised, and outputs that are no dict, are on the session."
OWN_TABLE: Final = "The result is printed as plain text, errors included; nothing is logged to standard output."

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "acreate_session_tasks": (OWN_ID, NO_ECHO),
    "create_session_full": (
        OWN_ID,
        Deviation('span after: attributes.*.source: "dev" -> "prod"', BY_SOURCE),
    ),
    "create_session_link": (
        OWN_ID,
        Deviation("span in {linked|odd}: attributes.baggage.session_name: * -> absent", NO_NAME_IN_BAGGAGE),
        Deviation("observed: name_in_baggage: * -> null", NO_NAME_IN_BAGGAGE),
        Deviation(
            '{span in odd: attributes.*.session_id|observed: not_validated}: "not a uuid" -> "<id in *>"',
            "An id that is no UUID becomes a name-based one: the backend files under UUIDs only.",
        ),
    ),
    "disable_batch": (OWN_ID,),
    "distributed_extract": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            "span prefixed names: attributes.baggage."
            "{honeyhive_session_id|honeyhive.project|honeyhive_source}: * -> absent",
            "What was understood as session, project and source is not repeated as foreign baggage.",
        ),
        Deviation('span title case headers: parent: null -> "<remote>"', "Header names are matched in any case."),
        Deviation(
            'span percent encoded: attributes.*.project: "a%20b" -> "a b"', "Baggage values are percent-decoded."
        ),
    ),
    "distributed_inject": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            "span decorated: attributes.honeyhive_outputs.result.baggage: * -> "
            '"session_id=<session client>,project=shop,source=dev"',
            NO_TRACER_ADDRESS,
        ),
        Deviation(
            "observed: {idle|in_span|in_decorated|after_decorated}.baggage: * -> "
            '"session_id=<session client>,project=shop,source=dev"',
            NO_TRACER_ADDRESS,
        ),
        Deviation(
            'observed: in_session.baggage: * -> "session_id=<id in *>,project=shop,source=dev"', NO_TRACER_ADDRESS
        ),
        Deviation("span client call 2: attributes.baggage.session_name: * -> absent", NO_NAME_IN_BAGGAGE),
        Deviation(
            'observed: link_return: "str" -> "Token"', "link() returns OpenTelemetry's own token, which unlink() takes."
        ),
    ),
    "enrich_session_fields": (OWN_ID,),
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
    "evaluate_basic": (
        OWN_ID,
        NO_ECHO,
        Deviation('span Evaluation: parent: null -> "answer"', EVALUATOR_SPAN),
        Deviation(
            'span Evaluation: attributes.*.session_id: "<session nightly>" -> "<session nightly #2>"', EVALUATOR_SPAN
        ),
        Deviation(
            "span Evaluation: attributes.honeyhive_metadata.{run_id|dataset_id|datapoint_id}: absent -> *",
            EVALUATOR_SPAN,
        ),
        Deviation(
            "span Evaluation: attributes.{honeyhive_inputs.call_*|honeyhive_inputs.score.*|honeyhive_metadata.func_*"
            "|honeyhive_config.final_settings|honeyhive_outputs.result}: * -> absent",
            EVALUATOR_SPAN,
        ),
        Deviation(
            "span Evaluation: attributes.{honeyhive_inputs.outputs|honeyhive_inputs.inputs"
            "|honeyhive_inputs.ground_truth|honeyhive_outputs.result.*}: absent -> *",
            EVALUATOR_SPAN,
        ),
        Deviation("observed: fields.*: * -> *", "The result has one more field, errors."),
        Deviation("observed: printed.*: * -> *", OWN_TABLE),
        Deviation(
            """order: calls: *"<session nightly #2>"', 'call PUT /events "<session nightly>"'* -> """
            """*'call PUT /events "<session nightly>"', 'call POST /session/start "<session nightly #2>"'*""",
            "A session gets its outputs as soon as its data point is done, so that an interrupted run keeps them.",
        ),
    ),
    "evaluate_failures": (
        OWN_ID,
        NO_ECHO,
        ONE_EVENT,
        NO_ESCAPED,
        NO_TWIN,
        Deviation("call PUT /events: unexpected", EVALUATE_TELLS),
        Deviation(
            "span task: attributes.honeyhive_metadata.evaluator_errors.{raises|pair}: absent -> *", EVALUATE_TELLS
        ),
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
            "The type is decided when the span has ended, from the attributes it has then.",
        ),
    ),
    "existing_global_provider": (OWN_ID,),
    "init_arguments_beat_environment": (OWN_ID,),
    "init_basic": (OWN_ID, NO_ECHO),
    "init_env_only": (OWN_ID,),
    "init_ingestion_key": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            "call POST /events: body.event.event_id: absent -> *",
            "The id of an event is made here too, and returned at once.",
        ),
    ),
    "init_without_key": (
        Deviation("span init_without_key.f: missing", "Without a key nothing is sent, also not as `Bearer None`."),
        Deviation(
            'observed: session_id: "<id in span *>" -> "<id in observed session_id>"', "The same: no span carries it."
        ),
        Deviation("observed: create_session: null -> *", "Sessions are made locally, in local mode too."),
    ),
    "multi_instance": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            'span undecided: attributes.*.{session_id|project}: {"<session s2>" -> "<session s1>"|"p2" -> "p1"}',
            "An undecided @trace uses the default tracer, the first one made, whatever was initialised last.",
        ),
    ),
    "session_precedence": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            "{span decorated: attributes.honeyhive_outputs.result|observed: decorated_sets_session_baggage}: "
            "true -> false",
            "A decorated function leaves the baggage as it is.",
        ),
        Deviation(
            "span explicit: attributes.{honeyhive.session_id|traceloop.association.properties.session_id|"
            "honeyhive_session_id}: *",
            TRACE_MOVES,
        ),
    ),
    "session_start_failure": (
        OWN_ID,
        Deviation("call POST /session/start: unexpected", "A start that fails is tried again."),
        Deviation(
            'observed: {create_session|acreate_session|with_session}: null -> "<id in *>"',
            "Sessions are made locally: whatever the backend answers, the caller is in the session it asked for.",
        ),
        Deviation(
            'observed: session_id: "<id in span inside *>" -> "<id in observed session_id>"',
            "So the span inside of with_session is not in the start-up session.",
        ),
    ),
    "session_threads": (OWN_ID,),
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
        Deviation("span raises no event: events*: {* -> absent|absent -> []}", "record_exception=False works."),
        Deviation("span raises no status: status.{code|message}: *", "set_status_on_exception=False works."),
    ),
    "third_party_spans": (OWN_ID,),
    "trace_async": (OWN_ID, NO_ECHO),
    "trace_exceptions": (
        OWN_ID,
        NO_ECHO,
        ONE_EVENT,
        NO_ESCAPED,
        NO_TWIN,
        Deviation("observed: async.2: true -> false", "An exception is not its own cause."),
        Deviation("observed: user_function_ran: 2 -> 1", "The user's function runs once, whatever its error says."),
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
    "with_session_scope": (
        OWN_ID,
        Deviation('span {in outer|back in outer}: attributes.*.source: "dev" -> "qa"', BY_SOURCE),
        Deviation('span back in outer: attributes.*.session_id: "<session inner>" -> "<session outer>"', RESTORED),
        Deviation(
            'span after {both|exception}: attributes.*.session_id: "<session {inner|failing}>" -> "<session startup>"',
            RESTORED,
        ),
        Deviation(
            "observed: {after_inner_is_outer: false -> true|after_exception_is_failing: true -> false}", RESTORED
        ),
        Deviation('observed: after_outer_baggage: "<session inner>" -> null', RESTORED),
    ),
}
"""Case -> what is different in it."""

NOT_YET: Final[Mapping[str, str]] = {}
"""Cases that cannot pass yet, with the reason; the test fails as soon as one does."""
