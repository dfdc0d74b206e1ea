"""`%config HHJupyter`: a trait for each setting that has one, validated by the setting's own rule; no secrets."""

from __future__ import annotations

import pytest
from traitlets import TraitError
from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfigString

from hh_jupyter.notebook.config import HHJupyter, make_config
from hh_jupyter.settings import DEFAULTS, TABLE


@pytest.fixture
def shell() -> Configurable:
    """The part of a shell that the configuration uses: a parent with a config."""
    return Configurable()


def test_the_traits_are_the_rows_of_the_table_that_allow_one() -> None:
    traits = HHJupyter.class_traits(config=True)
    assert set(traits) - {"config", "parent", "log"} == {name for name, row in TABLE.items() if row.trait}
    for name in traits:
        assert traits[name].help == TABLE[name].help
        assert getattr(HHJupyter(), name) == DEFAULTS[name]


def test_secrets_have_no_trait() -> None:
    assert not {name for name, row in TABLE.items() if row.secret} & set(HHJupyter.class_traits())


def test_only_explicit_values_override_the_environment(shell: Configurable) -> None:
    shell.config.HHJupyter.source = "staging"
    config = make_config(shell)
    assert config.explicit_values() == {"source": "staging"}
    config.set("display", "LINE")
    assert config.explicit_values() == {"source": "staging", "display": "line"}


def test_the_command_line_parses_values_like_the_environment() -> None:
    config = HHJupyter(config=Config({"HHJupyter": {"display_rows": DeferredConfigString("7")}}))
    assert config.explicit_values() == {"display_rows": 7}


def test_an_invalid_value_raises_an_error_that_states_the_rule() -> None:
    with pytest.raises(TraitError, match="one of auto, line, tree, off"):
        HHJupyter().set("display", "purple")


def test_invalid_values_in_the_shells_config_are_ignored_with_a_warning(
    shell: Configurable, caplog: pytest.LogCaptureFixture
) -> None:
    shell.config.HHJupyter.update({"display": "purple", "source": "staging", "display_rows": -1})
    assert make_config(shell).explicit_values() == {"source": "staging"}
    assert sorted(record.args[0].args[0].split("'")[1] for record in caplog.records) == ["display", "display_rows"]  # type: ignore[index, union-attr]
