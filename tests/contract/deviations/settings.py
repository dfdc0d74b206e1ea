"""Settings: arguments, environment, identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import EVENT_ID, NO_ECHO, OWN_ID, Deviation

NAMED: Final = "Every variable of the documentation does what it says, HH_SESSION_NAME and HH_RUN_ID for example."
UNPREFIXED: Final = "Variables that do not begin with HH_ or HONEYHIVE_ are somebody else's, a CI system's for example."

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "init_arguments_beat_environment": (OWN_ID,),
    "init_bad_ingestion_key": (
        Deviation(
            'observed: *: "{Value|Type}Error" -> "{SettingError|SettingTypeError}"',
            "They are a ValueError and a TypeError.",
        ),
    ),
    "init_basic": (OWN_ID, NO_ECHO),
    "init_env_aliases": (OWN_ID,),
    "init_env_all": (
        OWN_ID,
        Deviation("{call POST /session/start|span *|observed}: *session*: *init_env_all* -> *env session*", NAMED),
        Deviation("order: <session {init_env_all|env session}>: *", NAMED),
        Deviation('*metadata.{run_id|dataset_id|datapoint_id}: absent -> "env-*"', NAMED),
        Deviation('observed: run_id: null -> "env-run"', NAMED),
        Deviation("span {one|two}: attributes.honeyhive.experiment_{id|name|variant|group}: absent -> *", NAMED),
    ),
    "init_env_only": (OWN_ID,),
    "init_env_switches": (
        Deviation("{call POST /session/start|span work}: missing", "HH_DISABLE_TRACING=true disables tracing."),
    ),
    "init_env_unprefixed": (
        Deviation("order: <session {generic name|init_env_unprefixed}>: *", UNPREFIXED),
        Deviation('*session*: *"<session generic name>"* -> *"<session init_env_unprefixed>"*', UNPREFIXED),
        Deviation('*session_name: "generic name" -> "init_env_unprefixed"', UNPREFIXED),
        Deviation("call POST /session/start: body.session.{inputs.a|metadata.*}: * -> absent", UNPREFIXED),
        Deviation("span work: attributes.honeyhive_metadata.{run_id|dataset_id|datapoint_id}: * -> absent", UNPREFIXED),
        Deviation("span noise: unexpected", UNPREFIXED),
        Deviation('observed: {run_id: "ci-run-7" -> null|is_evaluation: true -> false}', UNPREFIXED),
    ),
    "init_extra_arguments": (
        Deviation(
            "observed: !raised: absent -> *sesion_name. Did you mean session_name?*",
            "A typo is an error; no call after it is made.",
        ),
        Deviation("{call POST /session/start|span work|span eval work}: missing", "The same."),
        Deviation("observed: is_evaluation: true -> absent", "The same."),
    ),
    "init_ingestion_key": (
        OWN_ID,
        NO_ECHO,
        EVENT_ID,
    ),
    "init_session_id_invalid": (
        Deviation(
            'call POST /session/start: body.session.metadata.session_id_given: absent -> "order-1234"',
            "A name-based UUID stands in for an id that is none, the same in every process; the text is kept.",
        ),
    ),
    "init_skip_backend_session": (
        Deviation(
            "span after server root: missing",
            "The session of a request ends with the request; a span of no session is not sent, as recorded.",
        ),
    ),
    "init_without_key": (
        Deviation("span init_without_key.f: missing", "Without a key nothing is sent, also not as `Bearer None`."),
        Deviation(
            'observed: session_id: "<id in span *>" -> "<id in observed session_id>"', "The same: no span carries it."
        ),
        Deviation("observed: create_session: null -> *", "Sessions are made locally, in local mode too."),
    ),
}
