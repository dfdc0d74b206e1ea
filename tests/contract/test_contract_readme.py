"""The written contract is complete: what cites it finds its section, and what it cites exists."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.faults import FAULTS
from tests.contract.recording import DATA

ROOT = Path(__file__).parents[2]
TEXT = Path(__file__).with_name("README.md").read_text("utf-8")
SECTIONS = {int(number) for number in re.findall(r"^## (\d+)\. ", TEXT, re.MULTILINE)}


def test_every_section_that_a_comment_cites_exists() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "hh_jupyter").rglob("*.py")]
    citations = re.findall(r"contract,\s+sections? (\d+)(?:(?:,| and) (\d+))?", " ".join(sources))
    cited = {int(number) for pair in citations for number in pair if number}
    assert cited <= SECTIONS
    assert sorted(SECTIONS) == list(range(1, 12))


def test_every_recording_that_the_contract_names_exists() -> None:
    named = set(re.findall(r"`(\w+\.json)`", TEXT)) - {"some_name.json"}
    assert named
    assert sorted(name for name in named if not (DATA / name).exists()) == []


def test_the_faults_are_those_that_have_tests() -> None:
    listed = re.findall(r"^(\d+)\. (.+)$", TEXT.partition("## 11. ")[2], re.MULTILINE)
    assert listed == [(str(fault.number), fault.text) for fault in FAULTS]
