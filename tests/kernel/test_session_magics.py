"""`%%hh_session` makes one cell one session and leaves everything else of the cell as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.driver import Cell, Kernel, row_of


def session_of(kernel: Kernel, name: str) -> str:
    """Session id of the span of this name."""
    (found,) = {session for span, session, _ in kernel.value("rows()") if span == name}
    return str(found)


@pytest.fixture(scope="module")
def own(local: Kernel) -> str:
    """The notebook's own session."""
    local.run("span('own')")
    return session_of(local, "own")


def assert_undone(kernel: Kernel, own: str) -> None:
    """The next cells, of both kinds, are in the notebook's session again."""
    for code in ("span('back')", "await asyncio.sleep(0); span('back')"):
        cell = kernel.run(code)
        assert cell.stderr == ""
    assert session_of(kernel, "back") == own


@pytest.mark.parametrize(
    "body",
    [
        "span({0!r})\n'result'",
        "await asyncio.sleep(0)\nspan({0!r})\n'result'",
    ],
    ids=["sync", "await"],
)
def test_the_cell_is_one_session_and_only_the_cell(local: Kernel, own: str, body: str) -> None:
    name = f"in-session-{len(body)}"
    cell = local.run("%%hh_session refund\n" + body.format(name))
    assert (cell.reply, cell.results, cell.kinds) == ("ok", ["'result'"], ["result", "display"])
    assert session_of(local, name) not in (own, "None")
    assert_undone(local, own)


@pytest.mark.parametrize(
    ("body", "ename"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("await asyncio.sleep(0)\n1 / 0", "ZeroDivisionError"),
        ("raise SystemExit", "SystemExit"),
        ("span(", "_IncompleteInputError"),
    ],
    ids=["sync", "await", "exit", "syntax"],
)
def test_an_error_is_shown_once_with_its_line_and_the_session_ends(
    local: Kernel, own: str, body: str, ename: str
) -> None:
    cell = local.run(f"%%hh_session refund\n\n{body}")
    assert cell.reply == "error"
    assert cell.ename in (ename, "SyntaxError")
    assert len(cell.errors) == 1
    if ename == "ZeroDivisionError":
        number = 2 + len(body.splitlines())
        assert f"line {number}" in cell.tracebacks[0] or f"--> {number} 1 / 0" in cell.tracebacks[0]
    assert_undone(local, own)


@pytest.mark.parametrize(
    "wait", ["time.sleep(30)", "for _ in range(3000): await asyncio.sleep(0.01)"], ids=["sync", "await"]
)
def test_an_interrupt_ends_the_session(local: Kernel, own: str, wait: str) -> None:
    cell = local.run(f"%%hh_session refund\nprint('now', flush=True)\n{wait}", interrupt_at="now")
    assert cell.reply == "error"
    assert_undone(local, own)


def test_stacked_session_lines_use_the_inner_session(local: Kernel, own: str) -> None:
    local.run("%%hh_session outer\n%%hh_session inner\nspan('stacked')")
    titles = local.value("get_ipython()._hh.titles()")
    assert titles[session_of(local, "stacked")] == "inner"
    assert_undone(local, own)


@pytest.mark.parametrize(
    "cell",
    ["%%time\n%%hh_session timed\nspan({0!r})", "%%hh_session timed\n%%time\nspan({0!r})"],
    ids=["above", "below"],
)
def test_other_cell_magics_work_above_and_below(local: Kernel, own: str, cell: str) -> None:
    name = f"timed-{cell.index('time')}"
    ran = local.run(cell.format(name))
    assert ran.reply == "ok"
    assert "Wall time" in ran.stdout
    assert session_of(local, name) != own
    assert_undone(local, own)


@pytest.mark.parametrize("code", ["span({0!r})\n'result'", "await asyncio.sleep(0)\nspan({0!r})\n'result'"])
def test_the_comment_makes_the_cell_a_session_too(local: Kernel, own: str, code: str) -> None:
    name = f"commented-{len(code)}"
    cell = local.run(f"#| echo: false\n#| hh_session: 'refund comment' --user 7\n{code.format(name)}")
    assert (cell.reply, cell.results, cell.kinds, cell.stderr) == ("ok", ["'result'"], ["result", "display"], "")
    assert local.value("get_ipython()._hh.titles()")[session_of(local, name)].startswith("refund comment")
    assert_undone(local, own)


def test_the_comment_is_a_comment_where_the_extension_is_not_loaded(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        cell = kernel.run("#| hh_session: refund --user 7\n1 + 1")
        assert (cell.reply, cell.results, cell.stderr) == ("ok", ["2"], "")


def test_a_mistake_in_the_comment_is_reported_like_in_the_magic(local: Kernel) -> None:
    cell = local.run("#| hh_session: refund --tags a=b\nprint('not reached')")
    assert (cell.ename, cell.stdout) == ("UsageError", "")
    assert cell.stderr == "UsageError: #| hh_session: unknown option --tags. Did you mean --metadata?\n"


def test_other_ways_to_run_code_stay_in_the_session(local: Kernel, own: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("span('from-a-file')")
    local.run(f"%%hh_session runs\n%run -i {tmp_path / 'script.py'}")
    local.run("%%hh_session nests\nget_ipython().run_cell(\"span('nested')\")")
    shell = local.run("%%hh_session shells\n!echo out; echo err >&2\nname = !echo listed\nspan('shell'); name[0]")
    future = local.run(
        "%%hh_session futures\nfrom __future__ import annotations\ndef f(x: Nobody): span('future')\nf(1)"
    )
    assert (shell.reply, shell.results, shell.stdout.split()) == ("ok", ["'listed'"], ["out", "err"])
    assert (future.reply, future.stderr) == ("ok", "")
    titles = local.value("get_ipython()._hh.titles()")
    named = {name: titles[session_of(local, name)] for name in ("from-a-file", "nested", "shell", "future")}
    assert named == {"from-a-file": "runs", "nested": "nests", "shell": "shells", "future": "futures"}
    assert_undone(local, own)


def titles_of(kernel: Kernel, *names: str) -> list[str]:
    """The titles of the sessions that these spans are in; "own" for the notebook's."""
    titles = kernel.value("get_ipython()._hh.titles()")
    return [titles.get(session_of(kernel, name), "own") for name in names]


def test_the_session_of_a_file_that_a_cell_runs_ends_with_the_file(local: Kernel, own: str, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer.ipy", tmp_path / "inner.ipy"
    outer.write_text(f"%%hh_session file-outer\nspan('fo-1')\n%run {inner}\nspan('fo-2')")
    inner.write_text("%%hh_session file-inner\nspan('fi')")
    cell = local.run(f"@hh.trace\ndef traced():\n    %run {outer}\n    span('fa')\ntraced()\nspan('fb')")
    assert len(cell.outputs) == 1
    assert titles_of(local, "fo-1", "fi", "fo-2") == ["file-outer", "file-inner", "file-outer"]
    assert titles_of(local, "fa", "fb") == ["own", "own"]
    assert {row_of(local, name).cell for name in ("fo-1", "fi", "fa", "fb")} == {str(cell.count)}
    assert_undone(local, own)


@pytest.mark.parametrize(
    ("body", "ename"),
    [("1 / 0", "ZeroDivisionError"), ("print('now', flush=True)\ntime.sleep(30)", "KeyboardInterrupt")],
    ids=["error", "interrupt"],
)
def test_the_session_of_a_file_that_fails_ends_too(
    local: Kernel, own: str, tmp_path: Path, body: str, ename: str
) -> None:
    file = tmp_path / "fails.ipy"
    file.write_text(f"%%hh_session file-fails\n{body}")
    name = f"after-{ename}"
    cell = local.run(f"try:\n    %run {file}\nexcept BaseException:\n    span({name!r})", interrupt_at="now")
    assert [error for error, _ in cell.errors] == [ename]
    assert titles_of(local, name) == ["own"]
    assert_undone(local, own)


@pytest.mark.parametrize("wait", ["", "await asyncio.sleep(0)"], ids=["sync", "await"])
def test_the_session_of_a_silent_request_ends_with_it(local: Kernel, own: str, wait: str) -> None:
    name = f"quiet{len(wait)}"
    local.run(f"%%hh_session quiet\n{wait}\nspan({name!r})", silent=True, store_history=False)
    assert titles_of(local, name)[0].startswith("quiet")
    assert_undone(local, own)


def by_name(body: str, name: str = "by-name") -> str:
    """A call of the magic, as `nbconvert --to script` writes it."""
    return f"get_ipython().run_cell_magic('hh_session', {name!r}, {body!r})"


def test_a_magic_called_by_its_name_is_one_session_and_part_of_its_cell(local: Kernel, own: str) -> None:
    cell = local.run("value = " + by_name("span('n-1')\n6 * 7") + "\nspan('n-2')\nvalue")
    assert (cell.reply, cell.results, cell.kinds) == ("ok", ["42"], ["result", "display"])
    assert titles_of(local, "n-1", "n-2") == ["by-name", "own"]
    assert {row_of(local, "n-1").cell, row_of(local, "n-2").cell} == {str(cell.count)}
    assert_undone(local, own)


def test_sessions_in_the_body_of_a_magic_called_by_name_end_with_their_own_body(local: Kernel, own: str) -> None:
    body = by_name("span('deep')", "deep") + "\nspan('between')\nget_ipython().run_cell('span(\"run\")')"
    local.run(f"{by_name(body, 'wide')}\nspan('n-3')")
    assert titles_of(local, "deep", "between", "run", "n-3") == ["deep", "wide", "wide", "own"]
    local.run(by_name("%%hh_session typed\nspan('typed')") + "\nspan('n-4')")
    assert titles_of(local, "typed", "n-4") == ["typed", "own"]
    local.run("get_ipython().run_cell_magic('time', '', \"%%hh_session timed-body\\nspan('tb')\")\nspan('n-5')")
    assert titles_of(local, "tb", "n-5") == ["timed-body", "own"]
    local.run(by_name("%hh_session from-here\nspan('line')") + "\nspan('n-6')")
    local.run("span('n-7')")
    local.run("%hh_session --end")
    assert titles_of(local, "line", "n-6", "n-7") == ["from-here"] * 3
    assert_undone(local, own)


@pytest.mark.parametrize(
    ("body", "ename"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = )", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_an_exception_in_a_magic_called_by_name_is_raised(local: Kernel, own: str, body: str, ename: str) -> None:
    cell = local.run(f"{by_name(body)}\nspan('not reached')")
    assert (cell.reply, [error for error, _ in cell.errors]) == ("error", [ename])
    caught = local.run(f"try:\n    {by_name(body)}\nexcept {ename}:\n    print('caught')")
    assert (caught.reply, caught.stdout, caught.errors) == ("ok", "caught\n", [])
    assert not [name for name, _, _ in local.value("rows()") if name == "not reached"]
    assert_undone(local, own)


def test_a_magic_called_by_name_cannot_await_in_a_cell(local: Kernel, own: str) -> None:
    message = usage_error(local.run(by_name("await asyncio.sleep(0)")))
    assert message.startswith("UsageError: %%hh_session: run_cell_magic cannot run a body with await here")
    assert_undone(local, own)


def test_a_cell_rerun_by_a_magic_is_a_new_session(local: Kernel) -> None:
    first = local.run("%%hh_session again\nspan('again')")
    local.run(f"%rerun {first.count}")
    sessions = {session for name, session, _ in local.value("rows()") if name == "again"}
    assert len(sessions) == 2


def test_names_may_contain_spaces_and_any_letters_and_titles_can_be_joined(local: Kernel) -> None:
    for number in (1, 2):
        local.run(f"%%hh_session 'Rückfrage 客户'\nspan('uni-{number}')")
    local.run("%%hh_session --join 'Rückfrage 客户' #2\nspan('uni-3')")
    assert session_of(local, "uni-3") == session_of(local, "uni-2") != session_of(local, "uni-1")
    shown = local.run("%hh show 'Rückfrage 客户' #2")
    assert "uni-3" in shown.output.text
    assert "uni-1" not in shown.output.text


def test_values_are_expanded_after_the_line_was_split(local: Kernel) -> None:
    local.run("topic, ticket = 'two words --end', {'id': 7}")
    local.run("%%hh_session {topic} --input ticket={ticket} --metadata who=$topic\nspan('expanded')")
    assert local.value("get_ipython()._hh.titles()")[session_of(local, "expanded")] == "two words --end"


def test_a_captured_body_keeps_its_session(local: Kernel, own: str) -> None:
    cell = local.run("%%hh_session captured\n%%capture out\nspan('captured')")
    assert len(cell.outputs) == 1
    assert session_of(local, "captured") != own
    assert_undone(local, own)


def test_each_run_is_a_session_of_its_own_and_is_numbered(local: Kernel) -> None:
    first = local.run("%%hh_session numbered\nspan('run-1')")
    second = local.run("%%hh_session numbered\nspan('run-2')")
    assert session_of(local, "run-1") != session_of(local, "run-2")
    titles = local.value("get_ipython()._hh.titles()")
    assert titles[session_of(local, "run-1")] == "numbered"
    assert titles[session_of(local, "run-2")] == "numbered #2"
    assert first.stderr == second.stderr == ""


def test_join_continues_a_session_by_name_title_prefix_or_last(local: Kernel) -> None:
    local.run("%%hh_session joined\nspan('j-0')")
    wanted = session_of(local, "j-0")
    for number, words in enumerate(("last", "joined", wanted, wanted[:8]), 1):
        assert local.run(f"%%hh_session --join {words}\nspan('j-{number}')").reply == "ok"
        assert session_of(local, f"j-{number}") == wanted


def test_an_id_of_ones_own_finds_the_session_again(local: Kernel) -> None:
    local.run("%%hh_session chat --id customer-42\nspan('id-1')")
    assert local.run("%%hh_session --join customer-42\nspan('id-2')").reply == "ok"
    assert session_of(local, "id-1") == session_of(local, "id-2")
    assert "id-2" in local.run("%hh show customer-42").output.text


def test_the_line_form_applies_to_the_following_cells_until_end(local: Kernel, own: str) -> None:
    message = local.run("%hh_session sticky\nspan('s-1')")
    local.run("span('s-2')")
    local.run("await asyncio.sleep(0)\nspan('s-3')")
    local.run("await asyncio.to_thread(span, 's-4')")
    sessions = {session_of(local, f"s-{number}") for number in (1, 2, 3, 4)}
    assert len(sessions) == 1
    assert sessions != {own}
    assert message.stdout.startswith("hh: session sticky ")
    assert local.run("%hh_session").stdout == message.stdout
    local.run("%hh_session --end\nspan('s-end')")
    assert session_of(local, "s-end") == own
    assert_undone(local, own)


def test_the_line_form_applies_from_an_await_cell(local: Kernel, own: str) -> None:
    local.run("await asyncio.sleep(0)\n%hh_session sticky-await\nspan('a-1')")
    local.run("span('a-2')")
    assert session_of(local, "a-1") == session_of(local, "a-2") != own
    local.run("await asyncio.sleep(0)\n%hh_session --end")
    assert_undone(local, own)


def test_after_a_cell_session_the_notebook_session_continues(local: Kernel, own: str) -> None:
    local.run("%hh_session around\nspan('around-1')")
    local.run("%%hh_session within\nspan('within')")
    local.run("span('around-2')")
    assert session_of(local, "around-1") == session_of(local, "around-2") != session_of(local, "within")
    local.run("%hh_session --end")
    assert_undone(local, own)


@pytest.mark.parametrize("wait", ["", "await asyncio.sleep(0)\n"], ids=["sync", "await"])
def test_a_session_created_in_a_cells_own_code_applies_to_the_following_cells(
    local: Kernel, own: str, wait: str
) -> None:
    kind = "await" if wait else "sync"
    local.run(f"{wait}hh.get_tracer().create_session('created')\nspan('c-1-{kind}')")
    local.run(f"span('c-2-{kind}')")
    local.run(f"await asyncio.sleep(0)\nspan('c-3-{kind}')")
    sessions = {session_of(local, f"c-{number}-{kind}") for number in (1, 2, 3)}
    assert len(sessions) == 1
    assert own not in sessions
    assert local.run("%hh_session").stdout.startswith("hh: session created ")
    local.run("%hh_session --end")
    assert_undone(local, own)


def test_a_session_created_in_a_task_or_thread_stays_there(local: Kernel, own: str) -> None:
    local.run(
        "async def other():\n    hh.get_tracer().create_session('elsewhere')\n    span('elsewhere')\n"
        "await asyncio.create_task(other())\n"
        "await asyncio.to_thread(hh.get_tracer().create_session, 'in a thread')"
    )
    assert session_of(local, "elsewhere") != own
    assert_undone(local, own)


def test_with_session_never_outlives_its_block(local: Kernel, own: str) -> None:
    local.run("with hh.get_tracer().with_session('block'): span('in-block')\nspan('after-block')")
    assert session_of(local, "in-block") != own
    assert session_of(local, "after-block") == own
    assert_undone(local, own)


def usage_error(cell: Cell) -> str:
    """The one line on stderr of a cell that was used wrongly."""
    assert (cell.reply, cell.ename) == ("error", "UsageError"), cell
    assert cell.errors == []
    return cell.stderr.strip()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "%%hh_session refund --tags a=b\nspan('no')",
            "UsageError: %%hh_session: unknown option --tags. Did you mean --metadata?",
        ),
        (
            "%%hh_session refund-triage\n\n",
            (
                "UsageError: %%hh_session needs code below it. To set the session of the following cells: "
                "%hh_session refund-triage"
            ),
        ),
        ("%%hh_session --bogus\nspan('no')", "UsageError: %%hh_session: unknown option --bogus."),
        ("%%hh_session it's\nspan('no')", "UsageError: %%hh_session: the quote ' is not closed."),
        ("%%hh_session --join nowhere\nspan('no')", "UsageError: %%hh_session: no session nowhere."),
        ("%hh_session --bogus", "UsageError: %hh_session: unknown option --bogus."),
    ],
    ids=["tags", "empty", "bogus", "quotes", "join", "line"],
)
def test_a_mistake_is_one_usage_error_and_nothing_runs(local: Kernel, own: str, code: str, message: str) -> None:
    assert usage_error(local.run(code)).startswith(message)
    assert not [name for name, _, _ in local.value("rows()") if name == "no"]
    assert_undone(local, own)


def test_the_magics_have_help_and_are_listed(local: Kernel) -> None:
    help_text = "get_ipython().object_inspect_mime(NAME)['text/plain']"
    assert "%hh show 4" in local.value(help_text.replace("NAME", "'%hh'"))
    assert "--join last|NAME|ID" in local.value(help_text.replace("NAME", "'%%hh_session'"))
    assert local.run("%%hh_session?").reply == "ok"
    assert local.run("%lsmagic").reply == "ok"
