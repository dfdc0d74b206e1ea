"""Several tracers, and traces across processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import NO_ECHO, NO_NAME_IN_BAGGAGE, OWN_ID, Deviation

NO_TRACER_ADDRESS: Final = (
    "The session, project and source travel with every request, also from start_span and outside of spans; the memory "
    "address of a tracer does not."
)
UNDECIDED: Final = (
    "An undecided @trace uses the default tracer, the first one made or the one that set_default_tracer named, in "
    "every thread; not the one that was initialised last in this context."
)
CLOSED: Final = "A tracer that was shut down sends nothing more; create_session still gives an id, so no caller breaks."

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "default_tracer_choice": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            'span choice: attributes.*.{session_id|source}: {"<session two>" -> "<session one>"|"second" -> "first"}',
            UNDECIDED,
        ),
    ),
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
    "existing_global_provider": (OWN_ID,),
    "multi_instance": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            'span undecided: attributes.*.{session_id|project}: {"<session s2>" -> "<session s1>"|"p2" -> "p1"}',
            UNDECIDED,
        ),
    ),
    "reinit_same_process": (
        OWN_ID,
        NO_ECHO,
        Deviation('span cell: attributes.*.session_id: "<session run 2>" -> "<session run 1>"', UNDECIDED),
    ),
    "second_tracer_lifecycle": (
        OWN_ID,
        Deviation(
            "observed: threads_left: 10 -> {0|1|2}", "Tracers share their threads; a busy machine starts more senders."
        ),
    ),
    "shutdown_behaviour": (
        OWN_ID,
        NO_ECHO,
        Deviation("call POST /session/start: missing", CLOSED),
        Deviation("span new tracer span: unexpected", "A tracer made after another was shut down works."),
        Deviation("observed: new_recording: false -> true", "The same."),
    ),
}
