"""`python -m hh_jupyter strip`: our outputs go, every other byte of the notebook stays."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.__main__ import main
from hh_jupyter.cli.strip import NotebookError, strip_text
from hh_jupyter.display.html import METADATA_KEY


def stream(text: str) -> dict[str, Any]:
    return {"name": "stdout", "output_type": "stream", "text": [text]}


def ours(name: str = "hh-1") -> dict[str, Any]:
    data = {"text/html": [f"<div>{name} </div>\n", "]},{"], "text/plain": ["✓ x  1 ms"]}
    return {"data": data, "metadata": {METADATA_KEY: {"view_id": name}}, "output_type": "display_data"}


def theirs() -> dict[str, Any]:
    return {"data": {"text/plain": ["hh_jupyter"]}, "metadata": {"isolated": True}, "output_type": "display_data"}


def notebook(*outputs: list[Any]) -> dict[str, Any]:
    cells = [
        {"cell_type": "code", "execution_count": 1, "id": str(i), "metadata": {}, "outputs": each, "source": ['"é"']}
        for i, each in enumerate(outputs)
    ]
    words = {"cell_type": "markdown", "id": "m", "metadata": {METADATA_KEY: {}}, "source": ["# \u2028 title"]}
    return {"cells": [words, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


MIXED = notebook([stream("a"), ours()], [ours("hh-2")], [], [ours(), theirs(), ours(), stream("b")])
CLEANED = notebook([stream("a")], [], [], [theirs(), stream("b")])

FORMATS: dict[str, Callable[[Any], str]] = {
    "nbformat": lambda data: json.dumps(data, indent=1, ensure_ascii=False) + "\n",
    "no last line feed": lambda data: json.dumps(data, indent=1, ensure_ascii=False),
    "two spaces, escaped": lambda data: json.dumps(data, indent=2),
    "tabs": lambda data: json.dumps(data, indent="\t", ensure_ascii=False) + "\n\n",
    "one line": json.dumps,
    "compact": lambda data: json.dumps(data, separators=(",", ":")),
    "Windows": lambda data: json.dumps(data, indent=4).replace("\n", "\r\n"),
    "byte order mark": lambda data: "\ufeff" + json.dumps(data, indent=1),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_our_outputs_are_removed_and_all_other_bytes_stay(write: Callable[[Any], str], tmp_path: Path) -> None:
    """The result is what the same program would have written without the outputs."""
    path = tmp_path / "notes.ipynb"
    path.write_bytes(write(MIXED).encode())
    path.chmod(0o640)
    assert main(["strip", str(path)]) == 0
    assert path.read_bytes() == write(CLEANED).encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("outputs"), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.lists(st.builds(ours, st.text()) | st.builds(stream, st.text()) | values, max_size=4), max_size=4),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_all_other_content_of_a_notebook_stays_the_same(
    outputs: list[list[Any]], indent: int | str | None, ascii_only: bool
) -> None:
    def kept(output: Any) -> bool:
        return not (isinstance(output, dict) and METADATA_KEY in output.get("metadata", {}))

    def write(data: Any) -> str:
        return json.dumps(data, indent=indent, ensure_ascii=ascii_only)

    cleaned = [[output for output in each if kept(output)] for each in outputs]
    stripped, found = strip_text(write(notebook(*outputs)))
    assert stripped == write(notebook(*cleaned))
    assert found == sum(map(len, outputs)) - sum(map(len, cleaned))
    assert strip_text(stripped) == (stripped, 0)


def test_check_lists_the_files_and_does_not_change_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traced, clean = tmp_path / "traced.ipynb", tmp_path / "clean.ipynb"
    traced.write_text(json.dumps(MIXED), encoding="utf-8")
    clean.write_text(json.dumps(CLEANED), encoding="utf-8")
    before = traced.stat()
    assert main(["strip", "--check", str(clean), str(traced)]) == 1
    assert capsys.readouterr().out == f"{traced}: 4 outputs of hh_jupyter\n"
    assert (traced.stat().st_mtime_ns, traced.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert main(["strip", str(clean), str(traced)]) == 0
    assert capsys.readouterr().out == f"{traced}: 4 outputs of hh_jupyter removed\n"
    assert main(["strip", "--check", str(clean), str(traced)]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a notebook: not JSON, Expecting value at line 1"),
        (b'{"cells": [\n<<<<<<< HEAD\n', "not a notebook: not JSON, Expecting value at line 2"),
        (b'{"cells": []} {}', "not a notebook: not JSON, Extra data at line 1"),
        (b"[1]", 'not a notebook of format 4: it has no list "cells"'),
        (b'{"worksheets": [], "nbformat": 3}', 'not a notebook of format 4: it has no list "cells"'),
        (b'{"cells": 3}', 'not a notebook of format 4: it has no list "cells"'),
        (b'{"cells": "\xff"}', "not a notebook: not UTF-8 at byte 11"),
        (b"[" * 100_000, "not a notebook: nested too deeply"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_file_is_reported_and_the_others_are_processed(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad.ipynb", tmp_path / "good.ipynb"
    if content is not None:
        bad.write_bytes(content)
    good.write_text(json.dumps(MIXED), encoding="utf-8")
    assert main(["strip", str(bad), str(good)]) == 2
    assert capsys.readouterr().err == f"hh_jupyter strip: {bad}: {message}\n"
    assert json.loads(good.read_text(encoding="utf-8")) == CLEANED
    assert content is None or bad.read_bytes() == content


@pytest.mark.parametrize("cell", ["1", "null", "[]", "{}", '{"outputs": null}', '{"outputs": [1, {"metadata": 2}]}'])
def test_malformed_cells_are_unchanged(cell: str) -> None:
    text = f'{{"cells": [{cell}]}}'
    assert strip_text(text) == (text, 0)


def test_the_last_of_duplicate_keys_counts() -> None:
    one, other = json.dumps(ours("one")), json.dumps(ours("other"))
    text = f'{{"cells": 1, "cells" : [ {{"outputs": [{one}], "outputs" : [ {other} ] }} ] }}'
    assert strip_text(text) == (text.replace(f"[ {other} ]", "[]"), 1)


def test_the_result_is_a_valid_notebook(tmp_path: Path) -> None:
    made = nbformat.from_dict(MIXED)
    nbformat.write(made, tmp_path / "notes.ipynb")
    assert main(["strip", str(tmp_path / "notes.ipynb")]) == 0
    nbformat.validate(nbformat.read(tmp_path / "notes.ipynb", as_version=4))


def test_strip_does_not_import_ipython(tmp_path: Path) -> None:
    path = tmp_path / "notes.ipynb"
    path.write_text(json.dumps(MIXED))
    asked = 'import sys; from hh_jupyter.__main__ import main; print(main(sys.argv[1:]), "IPython" in sys.modules)'
    shown = subprocess.run([sys.executable, "-c", asked, "strip", str(path)], capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1] == "0 False", shown


def test_the_command_has_help() -> None:
    shown = subprocess.run([sys.executable, "-m", "hh_jupyter", "strip", "--help"], capture_output=True, text=True)
    assert "usage: python -m hh_jupyter strip [-h] [--check] FILE [FILE ...]" in shown.stdout


@pytest.mark.parametrize("words", [[], ["strip"], ["stirp", "x.ipynb"], ["strip", "--chekc", "x.ipynb"]])
def test_a_wrong_command_line_shows_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m hh_jupyter")


def test_a_list_of_outputs_is_no_reason_to_guess() -> None:
    with pytest.raises(NotebookError, match="line 1"):
        strip_text('{"cells": [{"outputs": [1,]}]}')
