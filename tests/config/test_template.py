"""The file that `proxyctl init` writes is a good one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loader import load
from config.schema import SCHEMA_FILE
from config.template import render

OLD, NEW = "http://127.0.0.1:9001", "http://new.example:80"


def test_template_is_loaded(tmp_path: Path) -> None:
    loaded = load(tmp_path / "crossfade.yaml", text=render(OLD, NEW, "a-salt-of-the-tests"), environ={})
    assert (loaded.backends["old"].where, loaded.backends["new"].where) == (OLD, NEW)
    assert loaded.salt == "a-salt-of-the-tests"
    assert (loaded.routes[0].stage, loaded.default) == ("off", "old")


def test_first_line_names_the_schema() -> None:
    assert render(OLD, NEW).startswith(f"# yaml-language-server: $schema={SCHEMA_FILE}\n")


def test_salt_is_another_each_time() -> None:
    assert render(OLD, NEW) != render(OLD, NEW)
    assert render(OLD, NEW, "12345678") == render(OLD, NEW, "12345678")


@pytest.mark.parametrize("salt", ["short", 'a"quote-in-it', "two\nlines-of-salt", "${NOT_A_SALT}", ""])
def test_bad_salt(salt: str) -> None:
    with pytest.raises(ValueError, match="the salt must be"):
        render(OLD, NEW, salt)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("127.0.0.1:9001", NEW, r"old: .*did you mean 'http://127.0.0.1:9001'"),
        (OLD, "ftp://h", "new: .*ftp is not spoken"),
        (OLD, "http://h/path", "new: .*did you mean 'http://h'"),
        (OLD, OLD + "/", "old and new are the same backend"),
        ('http://h"\nx: y', NEW, "old: expected http://host:port"),
        (OLD, "http://127.0.0.1:8080", "this is the proxy's own address, listen 127.0.0.1:8080"),
        (OLD, "", "new: expected http://host:port"),
    ],
)
def test_bad_urls(old: str, new: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render(old, new)


@given(st.text(max_size=20))
def test_no_url_breaks_the_file(text: str) -> None:
    url = f"http://{text}"
    try:
        rendered = render(OLD, url)
    except ValueError:
        return
    assert load("x.yaml", text=rendered, environ={}).backends["new"].where == url
