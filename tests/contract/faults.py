"""The known faults of the recorded client, and the tests that show that this package does not have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        number: in section 11 of the contract.
        text: what goes wrong there, one sentence.
        tests: `<file>::<function>` of each test that would fail with it.
        reason: why it does not apply here, where no test can show it.
    """

    number: int
    text: str
    tests: tuple[str, ...]
    reason: str | None


# A line per fault; indented below it its tests, or `because:` and the reason.
_TABLE: Final = """
1. After a with_session block its session stays in force.
    tests/tracing/test_sessions.py::test_a_session_applies_to_its_block_only
    tests/tracing/test_context_properties.py::test_every_program_leaves_the_context_as_it_was
2. A session whose start fails is None, or an id that the backend never hears of.
    tests/tracing/test_session_starts.py::test_a_failed_session_start_is_retried_with_the_same_id
    tests/export/test_order.py::test_a_start_that_is_never_accepted_does_not_block_its_spans_and_updates
3. An answer that holds the session's id and not five more fields counts as a failure.
    tests/tracing/test_session_starts.py::test_a_response_that_contains_only_the_id_is_enough
4. The calls disagree about the current session; an id that is no UUID becomes a random one, or is not looked at.
    tests/tracing/test_sessions.py::test_an_explicit_session_id_overrides_baggage_which_overrides_the_tracers_own
    tests/tracing/test_sessions.py::test_a_custom_session_id_always_gives_the_same_uuid
    tests/tracing/test_session_starts.py::test_linking_to_a_session_sends_no_request_and_normalizes_the_id
5. session_start() registers a session that nothing is filed under.
    tests/tracing/test_session_starts.py::test_session_start_replaces_the_session_of_later_spans
6. The source of a session does not reach its spans.
    tests/tracing/test_sessions.py::test_the_source_of_a_session_applies_to_its_spans_only
7. The session made for one request goes on after it.
    tests/tracing/test_auto_sessions.py::test_each_request_has_a_session_of_its_own_that_ends_with_it
8. Session, project and source given for one span do not move it.
    tests/tracing/test_trace_decorator.py::test_session_source_and_project_of_the_decorator_apply_to_the_span
    tests/tracing/test_enrich_span_context.py::test_session_source_and_project_apply_to_the_span_and_its_children
9. What the backend refuses for a moment is lost, and a flush says that all is well.
    tests/export/test_flush.py::test_spans_that_a_backend_missed_arrive_when_it_is_back
    tests/export/test_flush.py::test_flush_to_a_failing_backend_keeps_its_deadline_and_the_spans
    tests/export/test_rejected_key.py::test_a_rejected_key_keeps_the_spans_and_reports_what_to_do
10. A span above the attribute limit disappears, and every tracer but the first has a far lower one.
    tests/export/test_finalize.py::test_a_span_above_the_limit_is_truncated_and_marked_but_not_lost
    tests/export/test_finalize.py::test_every_tracer_uses_the_limit_of_the_first
11. A tracer made after the first was shut down records nothing.
    tests/tracing/test_providers.py::test_the_first_tracer_sets_the_global_provider_and_a_tracer_after_its_shutdown_reuses_it
12. enrich_span claims success where there is no span, and drops fields of an event given by its id.
    tests/tracing/test_trace_decorator.py::test_enriching_needs_a_span
    tests/tracing/test_updates.py::test_enriching_an_event_by_its_id_sends_every_field
13. An update of a session is dropped in silence when a value is no JSON or the backend has a bad moment.
    tests/tracing/test_updates.py::test_values_that_json_cannot_represent_reach_the_session
    tests/tracing/test_updates.py::test_an_update_that_failed_is_sent_again
    tests/export/test_finalize.py::test_no_value_makes_a_session_call_raise
14. Links of spans do not arrive in the JSON protocol.
    tests/tracing/test_start_span.py::test_links_arrive_with_both_protocols
15. evaluate loses outputs that are no dict and every error, and files evaluators under the wrong session.
    tests/experiments/test_evaluate.py::test_outputs_of_any_type_reach_the_session
    tests/experiments/test_evaluate.py::test_function_and_evaluators_are_inside_one_chain_span_of_their_own_session
    tests/experiments/test_errors.py::test_an_error_of_the_function_is_in_the_result_and_on_its_session
    tests/experiments/test_errors.py::test_an_error_of_an_evaluator_is_on_the_session_and_the_others_run
16. An exception makes a second span and is recorded up to three times, whatever the arguments say.
    tests/tracing/test_trace_decorator.py::test_an_exception_propagates_unchanged_and_is_recorded_once
    tests/tracing/test_enrich_span_context.py::test_an_exception_is_recorded_once_and_propagates
    tests/tracing/test_start_span.py::test_recording_an_exception_can_be_switched_off
17. A function whose error has a certain text runs twice; an exception of a coroutine becomes its own cause.
    tests/tracing/test_trace_decorator.py::test_an_exception_propagates_unchanged_and_is_recorded_once
    tests/tracing/test_trace_parameters.py::test_the_exception_of_a_coroutine_function_is_untouched
18. The span of a generator ends before the first item, without its children and what was yielded.
    tests/tracing/test_trace_decorator.py::test_the_span_of_a_generator_lasts_until_its_end_and_has_its_children
    tests/tracing/test_trace_decorator.py::test_the_span_of_an_async_generator_lasts_until_its_end
19. Parameters of @trace stand in the metadata as well; attributes are doubled, lists become text.
    tests/tracing/test_trace_parameters.py::test_parameters_become_fields_and_not_metadata
    tests/tracing/test_start_span.py::test_attributes_are_set_once_with_their_types
20. None is the text None, tuples and dates have different texts in arguments and results.
    tests/tracing/test_trace_parameters.py::test_arguments_and_results_are_converted_alike_and_none_is_left_out
    tests/tracing/test_serialize_texts.py::test_each_kind_of_value_has_its_text
21. The event type is guessed from parts of words before the span has its attributes, also where one was given.
    tests/export/test_finalize.py::test_the_type_comes_from_the_attributes_at_the_end_of_the_span
    tests/conventions/test_event_type.py::test_names_are_read_by_whole_words
    tests/conventions/test_event_type.py::test_recorded_types_are_the_same_except_for_the_listed_faults
22. The parent of a filtered span's children is never sent.
    tests/tracing/test_providers.py::test_the_parent_of_a_filtered_spans_child_is_the_nearest_kept_ancestor
23. trace_class breaks static and class methods.
    tests/tracing/test_trace_decorator.py::test_a_class_keeps_its_static_and_class_methods_and_properties
24. Documented parameters of @trace are refused, and typos in init are not.
    tests/tracing/test_trace_parameters.py::test_the_documented_fields_are_sent
    tests/tracing/test_setup_errors.py::test_an_error_states_the_setting_its_value_and_the_rule
25. init changes the caller's context for good, and a memory address travels to other services.
    tests/tracing/test_propagation.py::test_creating_a_tracer_does_not_change_the_context
    tests/tracing/test_propagation.py::test_headers_carry_the_current_session
    tests/tracing/test_context_properties.py::test_every_program_leaves_the_context_as_it_was
26. Which tracer an undecided @trace uses depends on the thread, and set_default_tracer may have no effect.
    tests/tracing/test_tracer_choice.py::test_every_thread_uses_the_default_tracer_of_the_moment
27. Headers made in start_span lack the session; capitals and percent signs are not understood in incoming ones.
    tests/tracing/test_propagation.py::test_headers_carry_the_current_session
    tests/tracing/test_propagation.py::test_header_names_are_read_in_any_case
    tests/tracing/test_propagation.py::test_baggage_is_percent_decoded
28. Variables of others such as RUN_ID take effect, documented ones of its own do not.
    tests/test_settings.py::test_names_without_a_prefix_do_nothing
    tests/test_settings.py::test_every_documented_variable_sets_something_or_is_listed_with_the_reason_why_not
29. Without a key spans are sent with the credential None.
    tests/export/test_flush.py::test_local_mode_opens_no_socket_and_has_nothing_to_send
30. Every tracer but the first leaves a thread behind when it is shut down.
    tests/tracing/test_providers.py::test_a_shut_down_tracer_records_nothing_and_leaves_no_thread
31. Logs stand on standard output, with payloads and secrets.
    tests/tracing/test_setup_errors.py::test_verbose_logs_why_spans_cannot_be_sent_but_never_the_key
32. Starting a tracer or a session waits for the backend, also on the thread of an event loop.
    tests/tracing/test_session_starts.py::test_creating_sessions_does_not_wait_for_a_backend_that_hangs
33. A span costs ten times what one of OpenTelemetry costs, and importing the package loads a thousand modules.
    because: A cost is measured beside OpenTelemetry's own on the same machine; no test asserts a time.
34. Service name and resource of the first tracer are not those of the others.
    tests/tracing/test_resource.py::test_all_tracers_have_the_same_resource
"""


def _faults() -> Iterator[Fault]:
    for entry in re.split(r"\n(?=\S)", _TABLE.strip()):
        head, *below = (line.strip() for line in entry.splitlines())
        number, _, text = head.partition(". ")
        reasons = [line.removeprefix("because: ") for line in below if line.startswith("because: ")]
        tests = tuple(line for line in below if not line.startswith("because: "))
        yield Fault(int(number), text, tests, reasons[0] if reasons else None)


FAULTS: Final = tuple(_faults())
