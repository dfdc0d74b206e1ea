"""What is sent when, and what a backend in trouble does to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import OWN_ID, TRIED_AGAIN, Deviation

FLUSH_TELLS: Final = "A flush says False when something did not arrive."

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "batch_sizes": (
        Deviation(
            "observed: batch_sizes_sorted.*",
            "The settings of batch size and interval work; all 1300 spans arrive, as recorded.",
        ),
    ),
    "custom_requests_session": (OWN_ID,),
    "disable_batch": (OWN_ID,),
    "exit_without_flush": (OWN_ID,),
    "export_down": (
        Deviation("observed: force_flush: true -> false", FLUSH_TELLS),
        Deviation("observed: flush_under_30s: true -> false", "A flush tries on until its timeout, 30 s by default."),
    ),
    "export_rejected": (
        OWN_ID,
        Deviation("observed: {flush_400|flush_401|flush_200}: true -> false", FLUSH_TELLS),
        Deviation(
            "span third: missing", "A key that was refused is not tried again and again; sending goes on with another."
        ),
    ),
    "export_retry": (
        OWN_ID,
        Deviation("span lost: unexpected", "What a backend could not take for a moment is sent again."),
    ),
    "flush_functions": (OWN_ID,),
    "init_slow_backend": (
        OWN_ID,
        TRIED_AGAIN,
        Deviation(
            'call POST /session/start: answered session: absent -> "<session slow>"',
            "The same: the backend answers in the end.",
        ),
        Deviation('*session_id: "<id in span work *>" -> "<session slow>"', "The same: the session is known there."),
    ),
    "protocol_protobuf": (OWN_ID,),
    "protocol_protobuf_retry": (OWN_ID,),
    "protocol_selection": (OWN_ID,),
}
