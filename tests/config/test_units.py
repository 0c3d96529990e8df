"""The small words: what they mean, what they refuse, and that writing and reading are each other's reverse."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config.units import (
    MAX_SIZE,
    Address,
    Duration,
    ShortDuration,
    Size,
    SomeBytes,
    SomeShortTime,
    SomeTime,
    Source,
    UnitError,
    format_duration,
    format_ratio,
    format_size,
    nearest,
    parse_address,
    parse_backend_url,
    parse_duration,
    parse_ratio,
    parse_size,
    parse_source,
)

TEXT = st.text(max_size=20)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("1m", 60), ("2h", 7200), ("7d", 604800), ("1h30m", 5400), ("1.5s", 1.5), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "5",
        "5 s",
        " 5s",
        "5s ",
        "-5s",
        "5sec",
        "5S",
        "1e3s",
        "\N{ARABIC-INDIC DIGIT FIVE}s",
        ".5s",
        "3651d",
        "5s;",
    ],
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(UnitError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        (5, "5s"),
        (0.5, "0.5s"),
        (0, "0s"),
        (-5, ""),
        (math.inf, ""),
        (1e-9, ""),
        (4e8, ""),
        (True, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_duration_without_unit_is_not_guessed(value: object, suggestion: str) -> None:
    with pytest.raises(UnitError, match="with a unit") as caught:
        parse_duration(value)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize("kind", [Duration, SomeTime, ShortDuration, SomeShortTime, Size, SomeBytes])
@given(value=st.integers() | st.floats())
@example(0)
@example(0.0)
@example(-1)
@example(500)
def test_the_unit_that_is_suggested_would_be_accepted(kind: Any, value: float) -> None:
    reader = TypeAdapter[float](kind)
    with pytest.raises(ValidationError) as caught:
        reader.validate_python(value)
    suggestion = caught.value.errors()[0]["ctx"]["error"].suggestion
    if suggestion:
        assert reader.validate_python(suggestion) >= 0
    elif isinstance(value, int) and 0 < value < 1000:
        raise AssertionError("a sound number lacks its unit alone")


@pytest.mark.parametrize(
    ("kind", "value", "suggestion"),
    [
        (SomeShortTime, 500, "500ms"),
        (SomeShortTime, 0.5, "0.5s"),
        (SomeShortTime, 0, ""),
        (ShortDuration, 5, "5ms"),
        (ShortDuration, 0, "0s"),
        (SomeTime, 300, "300s"),
        (SomeTime, 0, ""),
        (SomeBytes, 0, ""),
        (Size, 0, "0B"),
        (Size, -1, ""),
    ],
)
def test_the_unit_that_is_suggested_is_likely_meant(kind: Any, value: float, suggestion: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert caught.value.errors()[0]["ctx"]["error"].suggestion == suggestion


@given(st.integers(0, 3650 * 86_400_000))
@example(100)
@example(1001)
def test_durations_are_read_as_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.005, "5ms"), (0.0005, "0.5ms"), (1.5, "1.5s"), (90.0, "90s"), (3600.0, "1h")]
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("64KiB", 65536),
        ("1MiB", 2**20),
        ("2GiB", 2**31),
        ("1kB", 1000),
        ("1.5MiB", 1572864),
        ("1 MB", 10**6),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", "1mib", "1KB", "-1B", "1MiBs", "1e3B", "MiB", "9999999999999999B", " 1B"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UnitError):
        parse_size(text)


@given(st.integers(0, MAX_SIZE))
def test_sizes_are_read_as_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10_000))
def test_ratios_are_read_as_written(hundredths: int) -> None:
    assert math.isclose(parse_ratio(format_ratio(hundredths / 10_000)), hundredths / 10_000, abs_tol=1e-12)


@pytest.mark.parametrize("value", ["101%", "-1%", 1.01, -0.1, "x%", "%", "nan", "nan%", "inf", None, True, [], "1 %%"])
def test_bad_ratios(value: object) -> None:
    with pytest.raises(UnitError):
        parse_ratio(value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("[0:0:0:0:0:0:0:1]:80", Address("::1", 80)),
        ("Old.Example:65535", Address("old.example", 65535)),
        ("my_service:80", Address("my_service", 80)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


BAD_ADDRESSES = [
    "",
    ":80",
    "80",
    "a",
    "a:",
    "a:b",
    "a:65536",
    "::1:80",
    "[1.2.3.4]:80",
    "a:80/",
    "u@a:80",
    "a b:80",
    "a:80\n",
    "-a:80",
]


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(UnitError):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback", "any_"),
    [
        ("127.0.0.1", True, False),
        ("127.9.9.9", True, False),
        ("::1", True, False),
        ("localhost", True, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.1", False, False),
        ("localhost.evil", False, False),
    ],
)
def test_who_can_reach_an_address(host: str, loopback: bool, any_: bool) -> None:
    assert (Address(host, 1).is_loopback(), Address(host, 1).is_any()) == (loopback, any_)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://a", Address("a", 80)),
        ("http://a:81/", Address("a", 81)),
        ("http://[::1]:82", Address("::1", 82)),
        ("https://a", Address("a", 443)),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_backend_url(url).address == address


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:9003/", "127.0.0.1:9003"),
        ("http://new.example:80", "new.example"),
        ("https://new.example", "new.example"),
        ("https://new.example:80", "new.example:80"),
        ("http://[::1]:9003", "[::1]:9003"),
        ("http://[::1]", "[::1]"),
        ("srv+http://_events._tcp.example", "_events._tcp.example"),
    ],
)
def test_the_host_header_of_a_backend(url: str, authority: str) -> None:
    assert parse_backend_url(url).authority == authority


BAD_URLS = [
    "",
    "a",
    "ftp://a",
    "http://",
    "http://a:0",
    "http://a:70000",
    "http://a/b",
    "http://a?b",
    "http://a#b",
    "http://a b",
]


@pytest.mark.parametrize(
    "url", [*BAD_URLS, "http://a:80\n", "http://u:p@a", "http://[zz]:1", "HTTP://a", "http://a\\b"]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(UnitError):
        parse_backend_url(url)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("client", Source("client", "")),
        ("json:/a/b", Source("json", "/a/b")),
        ("json:/", Source("json", "/")),
        ("json:/a~1b~0", Source("json", "/a~1b~0")),
        ("header:X-Key", Source("header", "X-Key")),
        ("query:a:b", Source("query", "a:b")),
    ],
)
def test_sources(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text", ["", "client:", "json", "json:", "json:a", "json:/~2", "header:", "header:a b", "cookie:a=b", "ip:x"]
)
def test_bad_sources(text: str) -> None:
    with pytest.raises(UnitError):
        parse_source(text)


@given(TEXT)
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_ratio, parse_address, parse_backend_url, parse_source):
        with contextlib.suppress(UnitError):
            parse(text)


@pytest.mark.parametrize(("word", "meant"), [("wieght", "weight"), ("WEIGHT", "weight"), ("colour", ""), ("", "")])
def test_nearest_word(word: str, meant: str) -> None:
    assert nearest(word, ("weight", "stage")) == meant
