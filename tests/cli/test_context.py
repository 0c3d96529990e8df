"""Contexts: the commands, the file, and what of it is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import context_file
from proxy.cli.context_file import NAME, Context, Contexts, read, render
from proxy.cli.failure import Failure
from tests.cli.conftest import ROOT, Ctl
from tests.cli.fake_admin import FakeAdmin, serving


def file_of(home: Path) -> Path:
    return home / "xdg" / "crossfade" / "contexts.yaml"


def write(home: Path, text: str) -> None:
    file_of(home).parent.mkdir(parents=True, exist_ok=True)
    file_of(home).write_text(text)


def test_a_life_of_contexts(ctl: Ctl, home: Path) -> None:
    assert ctl("context", "ls").out == f"no contexts in {file_of(home)}\n"
    done = ctl("context", "set", "here", "--admin", "unix:a.sock")
    assert done.out.splitlines()[-1] == "next: proxyctl context use here"
    pair = ["--admin", "http://a:1", "--admin", "http://b:2", "--admin", "http://a:1", "--token-file", "~/t"]
    assert ctl("context", "set", "pair", *pair).code == 0
    assert ctl("context", "use", "pair").code == 0
    answer = ctl("context", "ls", "-o", "json").json
    assert answer == {
        "file": str(file_of(home)),
        "current": "pair",
        "contexts": [
            {"name": "here", "admin": [f"unix:{home}/a.sock"], "token_file": None},
            {"name": "pair", "admin": ["http://a:1", "http://b:2"], "token_file": f"{home}/t"},
        ],
    }
    assert yaml.safe_load(ctl("context", "ls", "-o", "yaml").out) == answer
    lines = ctl("context", "ls").out.splitlines()
    assert lines[1].split() == ["here", f"unix:{home}/a.sock", "-"]
    assert lines[2].split() == ["*", "pair", "http://a:1,", "http://b:2", f"{home}/t"]
    assert ctl("context", "rm", "pair", "-o", "json").json["current"] is None
    assert ctl("context", "set", "here", "--admin", "http://c", "-o", "json").json["contexts"][0]["admin"] == [
        "http://c"
    ]


def test_the_file_is_its_owners_alone_and_left_whole(ctl: Ctl, home: Path) -> None:
    write(home, "contexts: {}\n")
    file_of(home).chmod(0o644)
    assert ctl("context", "set", "a", "--admin", "http://a").code == 0
    assert stat.S_IMODE(file_of(home).stat().st_mode) == 0o600
    assert [entry.name for entry in file_of(home).parent.iterdir()] == ["contexts.yaml"]
    before = file_of(home).read_text()
    assert ctl("context", "use", "gone").code == 2
    assert ctl("context", "rm", "gone").code == 2
    assert file_of(home).read_text() == before


def test_contexts_made_at_the_same_time_are_all_kept(home: Path) -> None:
    code = (
        "import sys; from proxy.cli.main import main\n"
        "for i in range(5): assert main(['context', 'set', f'{sys.argv[1]}-{i}', '--admin', 'http://a']) == 0"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([*command, name], env=environment, stdout=subprocess.DEVNULL) for name in "abcd"]
    assert [process.wait(60) for process in running] == [0] * 4
    assert set(context_file.load().every) == {f"{name}-{i}" for name in "abcd" for i in range(5)}


def test_the_current_one_is_used_and_another_on_request(ctl: Ctl, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {name: FakeAdmin() for name in "abc"}
    for name in "abc":
        assert ctl("context", "set", name, "--admin", f"unix:{name}").code == 0
    both = ["--admin", "unix:a", "--admin", "unix:b"]
    assert ctl("context", "set", "both", *both).code == 0
    assert ctl("context", "use", "a").code == 0
    with serving(fakes["a"], "a"), serving(fakes["b"], "b"), serving(fakes["c"], "c"):
        assert ctl("history").code == 0
        assert ctl("history", "--context", "b").code == 0
        assert ctl("--context", "b", "history").code == 0
        monkeypatch.setenv("PROXYCTL_ADMIN", "unix:c")
        assert ctl("history").code == 0
        assert ctl("history", "--context", "both", "-o", "json").json[1]["admin"] == f"unix:{home}/b"
        monkeypatch.chdir("/")
        assert ctl("history", "--context", "a").code == 0
    assert [len(fake.requests) for fake in fakes.values()] == [3, 3, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["history", "--context", "gone"], "contexts are none"),
        (["history", "--context", "a", "--admin", "http://a"], "give one of them"),
        (["context", "set", "a"], "add --admin URL"),
        (["context", "set", "a b", "--admin", "http://a"], "not 'a b'"),
        (["context", "set", "a", "--admin", "unix:a\nb"], "cannot be printed"),
        (["context", "set", "a", "--admin", "nonsense"], "expected an admin endpoint"),
        (["context", "set", "a", "--admin", "http://a", "--token", "cf_x"], "use --token-file"),
        (["context", "set", "a", "--admin", "http://a", "--context", "b"], "does not choose"),
    ],
)
def test_usage(ctl: Ctl, home: Path, words: list[str], said: str) -> None:
    done = ctl(*words)
    assert done.code == 2
    assert said in done.err
    assert not file_of(home).exists()


GOOD = "contexts:\n  a:\n    admin: http://a\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", 1),
        ("contexts:\n  a: x\n", 2),
        ("contexts:\n  a:\n    admin: [http://a]\n", 3),
        ("contexts:\n  a:\n    admin:\n      - {x: y}\n", 4),
        ("contexts:\n  a:\n    admin:\n    token_file: t\n", 2),
        ("contexts:\n  a:\n", 2),
        ("contexts:\n  a:\n   admin: http://a\n", 3),
        ("contexts:\n  a:\n    admins: http://a\n", 3),
        ('contexts:\n  a:\n    admin: "http://a\n', 3),
        ('contexts:\n  a:\n    admin: "http://a" b\n', 3),
        ("contexts:\n  a:\n    admin: *x\n", 3),
        ("contexts:\n  a:\n    admin: http://a\n    admin: http://b\n", 4),
        ("# comment\n\ncurrent: b\n" + GOOD, 3),
        ("current: a\ncurrent: a\n" + GOOD, 2),
        (GOOD + "  a:\n    admin: http://b\n", 4),
        ("  a:\n    admin: http://a\n", 1),
        ("contexts:\n    admin: http://a\n", 2),
        (GOOD + "version: 1\n", 4),
        (GOOD + "\tcurrent: a\n", 4),
        ("contexts:\n      - http://a\n", 2),
    ],
)
def test_a_broken_file_is_named_with_its_line(ctl: Ctl, home: Path, text: str, line: int) -> None:
    write(home, text)
    for words in (["history"], ["history", "--context", "a"], ["context", "ls"], ["context", "rm", "a"]):
        done = ctl(*words)
        assert done.code == 2, text
        assert f"proxyctl: {file_of(home)}:{line}: " in done.err
    assert file_of(home).read_text() == text
    assert ctl("history", "--admin", "unix:gone").code == 6  # a file that is not needed is not looked at


def test_what_people_write(ctl: Ctl, home: Path) -> None:
    write(
        home,
        "---\n# mine\ncurrent: a  # this one\ncontexts:\n  a: \n    admin: http://a:1 # old\n"
        '    token_file: "/t #1"\n\n  b-1.x:\n    admin:\n      - unix:/a/b.sock\n      - "http://b"\n'
        "  c:\n    admin:\n    - http://c\n",
    )
    text = file_of(home).read_text()
    contexts = read(text, "f")
    assert contexts.current == "a"
    assert contexts.every == {
        "a": Context(("http://a:1",), "/t #1"),
        "b-1.x": Context(("unix:/a/b.sock", "http://b")),
        "c": Context(("http://c",)),
    }
    parsed = yaml.safe_load(text)
    assert (parsed["current"], list(parsed["contexts"])) == ("a", list(contexts.every))


def test_a_file_that_cannot_be_read(ctl: Ctl, home: Path) -> None:
    write(home, "")
    file_of(home).write_bytes(b"\xff\xfe")
    assert "not UTF-8" in ctl("history").err
    file_of(home).unlink()
    file_of(home).mkdir()
    assert "Is a directory" in ctl("history").err


_TEXT = st.text(st.characters().filter(str.isprintable), min_size=1, max_size=20)
_NAMES = st.from_regex(NAME, fullmatch=True)
_CONTEXT = st.builds(Context, st.lists(_TEXT, min_size=1, max_size=3).map(tuple), st.just("") | _TEXT)


@given(st.dictionaries(_NAMES, _CONTEXT, max_size=4), st.data())
def test_what_is_written_is_yaml_and_is_read_again(every: dict[str, Context], data: st.DataObject) -> None:
    contexts = Contexts(data.draw(st.sampled_from(["", *every])), every)
    text = render(contexts)
    assert read(text, "f") == contexts
    parsed = yaml.safe_load(text)
    assert parsed.get("current", "") == contexts.current
    assert {name: tuple(each["admin"]) for name, each in parsed["contexts"].items()} == {
        name: each.admin for name, each in every.items()
    }


def accepted(text: str) -> Contexts | None:
    """What is read, or None for an error with its line."""
    try:
        return read(text, "f")
    except Failure as failure:
        found = failure
    assert found.code == 2
    assert found.message.startswith("f:")
    return None


_PIECES = ["contexts:", "current: a", "  a:", "    admin:", "    admin: ", "      - ", "    token_file: ", "http://a"]
_PIECES += ["\n", "\n", "\n", " #", '"', "x", ": ", ":", "'", "&", "*", "- ", " ", "{}", "[", ",", "!", "%", "|", "?"]


def check_against_yaml(text: str) -> None:
    contexts = accepted(text)
    if contexts is None:
        return
    parsed = yaml.load(text, yaml.BaseLoader) or {}
    assert parsed.get("current", "") == contexts.current
    listed = {name: each["admin"] for name, each in (parsed.get("contexts") or {}).items()}
    assert {name: (each,) if isinstance(each, str) else tuple(each) for name, each in listed.items()} == {
        name: each.admin for name, each in contexts.every.items()
    }


@given(st.lists(st.sampled_from(_PIECES), max_size=24).map("".join))
def test_what_is_read_means_the_same_in_yaml(text: str) -> None:
    check_against_yaml(text)


@given(st.text(max_size=60))
def test_no_text_is_more_than_an_error(text: str) -> None:
    accepted(text)


@given(st.lists(st.sampled_from(_PIECES), max_size=6).map("".join))
def test_no_value_is_read_that_yaml_reads_otherwise(value: str) -> None:
    check_against_yaml(f"contexts:\n  a:\n    admin: {value}\n")
