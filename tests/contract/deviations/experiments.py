"""`evaluate` and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import NO_ECHO, NO_ESCAPED, NO_TWIN, ONE_EVENT, OWN_ID, TRIED_AGAIN, Deviation

EVALUATOR_SPAN: Final = (
    "An evaluator's span is like that of any traced function: arguments by name, and what it returned. It is in the "
    "session of its data point, under the data point's span."
)
EVALUATE_TELLS: Final = "What a data point or an evaluator raised, and outputs that are no dict, are on the session."
OWN_TABLE: Final = "The result is printed as plain text, errors included; nothing is logged to standard output."

RESULT_EVENT: Final = Deviation(
    'span {answer|task|atask}: events{: [] -> absent|.*.name: absent -> "gen_ai.evaluation.result"'
    "|.*.attributes.gen_ai.evaluation.*: absent -> *|.*.attributes.error.type: absent -> *}",
    "Scores are on the data point's span as OpenTelemetry's events too, which any backend reads.",
)

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "compare_runs": (
        Deviation(
            'observed: compare: "ValidationError" -> absent', "What an answer leaves out is empty in the comparison."
        ),
    ),
    "evaluate_arguments": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            '{call POST /session/start: body.session|span task: attributes.*}.project: absent -> "p"',
            "project= does what it says.",
        ),
        Deviation(
            'observed: {neither|both|unknown dataset}: "ValueError: *" -> "SettingError: evaluate: *"',
            "A SettingError is a ValueError; its text names the call.",
        ),
        Deviation(
            'observed: not a dict: "AttributeError: *" -> "SettingTypeError: evaluate: *"',
            "A mistake is named before the run is made.",
        ),
    ),
    "evaluate_backend_dataset": (
        OWN_ID,
        NO_ECHO,
    ),
    "evaluate_backend_errors": (
        OWN_ID,
        NO_ECHO,
        TRIED_AGAIN,
        Deviation("call PUT /events: unexpected", "The same."),
        Deviation(
            '{call *: body.event_id*|span task: attributes.*.session_id}: "<id in span task *>" -> "<session *>"',
            "So the session exists.",
        ),
        Deviation(
            'observed: create fails: "HTTPException: 500 *" -> "BackendError: *answered 500"', "An error of ours."
        ),
    ),
    "evaluate_basic": (
        Deviation(
            'observed: {passed|failed|datapoint_ids}.*: "EXT-*" -> *',
            "A result has the ids that the user gave; the prefix that the backend needs is in requests only.",
        ),
        OWN_ID,
        NO_ECHO,
        RESULT_EVENT,
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
    ),
    "evaluate_concurrency": (
        OWN_ID,
        NO_ECHO,
        RESULT_EVENT,
        Deviation("call PUT /events: unexpected", EVALUATE_TELLS),
    ),
    "evaluate_failures": (
        OWN_ID,
        NO_ECHO,
        RESULT_EVENT,
        ONE_EVENT,
        NO_ESCAPED,
        NO_TWIN,
        Deviation("call PUT /events: unexpected", EVALUATE_TELLS),
        Deviation(
            "span task: attributes.honeyhive_metadata.evaluator_errors.{raises|pair}: absent -> *", EVALUATE_TELLS
        ),
        Deviation(
            "observed: datapoints: 0 -> 3",
            "If the backend has not computed results yet, the result is computed locally, with a warning.",
        ),
    ),
}
