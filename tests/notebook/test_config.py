"""`%config HHJupyter`: a trait for each setting that has one, checked by the setting's own rule; no secrets."""

from __future__ import annotations

import pytest
from traitlets import TraitError
from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfigString

from hh_jupyter.notebook.config import HHJupyter, configured
from hh_jupyter.settings import DEFAULTS, TABLE


@pytest.fixture
def shell() -> Configurable:
    """All that the configuration takes from a shell: a parent with a config."""
    return Configurable()


def test_every_row_with_a_trait_has_one_and_no_other() -> None:
    traits = HHJupyter.class_traits(config=True)
    assert set(traits) - {"config", "parent", "log"} == {name for name, row in TABLE.items() if row.trait}
    for name in traits:
        assert traits[name].help == TABLE[name].help
        assert getattr(HHJupyter(), name) == DEFAULTS[name]


def test_secrets_have_no_trait() -> None:
    assert not {name for name, row in TABLE.items() if row.secret} & set(HHJupyter.class_traits())


def test_only_what_somebody_set_beats_the_environment(shell: Configurable) -> None:
    shell.config.HHJupyter.source = "staging"
    config = configured(shell)
    assert config.given() == {"source": "staging"}
    config.set("display", "LINE")
    assert config.given() == {"source": "staging", "display": "line"}


def test_the_command_line_spells_values_as_the_environment_does() -> None:
    config = HHJupyter(config=Config({"HHJupyter": {"display_rows": DeferredConfigString("7")}}))
    assert config.given() == {"display_rows": 7}


def test_a_value_that_breaks_the_rule_is_refused_with_the_rule() -> None:
    with pytest.raises(TraitError, match="one of auto, line, tree, off"):
        HHJupyter().set("display", "purple")


def test_refused_values_in_the_shells_config_are_named_and_passed_over(
    shell: Configurable, caplog: pytest.LogCaptureFixture
) -> None:
    shell.config.HHJupyter.update({"display": "purple", "source": "staging", "display_rows": -1})
    assert configured(shell).given() == {"source": "staging"}
    assert sorted(record.args[0].args[0].split("'")[1] for record in caplog.records) == ["display", "display_rows"]  # type: ignore[index, union-attr]
