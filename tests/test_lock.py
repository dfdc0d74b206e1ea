"""The lock files hold a version of everything that `make test` installs, for every Python that is supported."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted([*ROOT.glob("*.lock"), *ROOT.glob("tests/*/*.lock")])
PYTHONS = ("3.11", "3.12", "3.13")


def group(name: str) -> Iterator[str]:
    for entry in PROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            yield from group(entry["include-group"])
        else:
            yield entry


def pins(lock: Path, python: str) -> dict[str, str]:
    """The version of each package that a lock file gives a Python."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = {"python_version": python, "python_full_version": f"{python}.9"}
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pinned
        if pin.marker is None or pin.marker.evaluate(here)
    }


def missing(wanted: list[str], lock: Path, python: str) -> list[str]:
    """The requirements that a lock file gives no fitting version."""
    found = pins(lock, python)
    requirements = [Requirement(text) for text in wanted]
    return [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(found.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_file_has_a_version_of_every_requirement(python: str) -> None:
    wanted = [
        *PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["openai"],
        *group("dev"), *group("cluster"), *group("docs"), *group("build"),
    ]  # fmt: skip
    assert not missing(wanted, ROOT / "requirements.lock", python), "run `make lock`"


@pytest.mark.parametrize("lock", sorted((ROOT / "tests" / "matrix").glob("*.lock")), ids=lambda lock: lock.stem)
def test_each_pair_of_the_matrix_has_a_lock_file_of_its_own(lock: Path) -> None:
    text = lock.with_suffix(".txt").read_text(encoding="utf-8")
    wanted = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert not missing([*PROJECT["project"]["dependencies"], *wanted], lock, "3.11"), "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_file_names_a_host(lock: Path) -> None:
    assert "://" not in lock.read_text(encoding="utf-8")


def test_there_is_a_lock_file_for_each_pair() -> None:
    folder = ROOT / "tests" / "matrix"
    assert {path.stem for path in folder.glob("*.lock")} == {path.stem for path in folder.glob("*.txt")}
