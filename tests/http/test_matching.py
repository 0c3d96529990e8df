"""Routes: the first whose host, path and method all match."""

from __future__ import annotations

from typing import Any

import pytest

from config.model import Match
from proxy.http.head import HeadParser, RequestHead
from proxy.http.matching import Matcher


class Rule:
    """Something that stands under a match."""

    def __init__(self, preview_host: str | None = None, **match: Any) -> None:
        self.preview_host = preview_host
        self.match = Match.model_validate({"methods": ("POST",)} | match)


def head(path: bytes, method: bytes = b"POST", host: bytes = b"a.example") -> RequestHead:
    found = HeadParser(frozenset(), 100, 8192).parse(method + b" " + path + b" HTTP/1.1\r\nHost: " + host)
    assert isinstance(found, RequestHead)
    return found


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/a/b", b"/a/b", {}),
        ("/a/b", b"/a/b?c=d", {}),
        ("/a/b", b"/a/b/", None),
        ("/a/b", b"/a", None),
        ("/a/b", b"/A/b", None),
        ("/a.b", b"/axb", None),
        ("/a/*", b"/a/b/c", {}),
        ("/a/*", b"/a/", {}),
        ("/a/*", b"/a", {}),
        ("/a/*", b"/ab", None),
        ("/*", b"/", {}),
        ("/*", b"/a", {}),
        ("/a/{id}", b"/a/7", {"id": "7"}),
        ("/a/{id}", b"/a/%41", {"id": "%41"}),
        ("/a/{id}", b"/a/", None),
        ("/a/{id}", b"/a/7/b", None),
        ("/a/{id}/b/{other}", b"/a/7/b/x", {"id": "7", "other": "x"}),
        ("/a/{id}/*", b"/a/7/b/c", {"id": "7"}),
        ("/a/{id}", b"/a/7%0a", {"id": "7%0a"}),
    ],
)
def test_a_path(pattern: str, path: bytes, params: dict[str, str] | None) -> None:
    rule = Rule(path=pattern)
    found, given = Matcher([rule]).find(head(path))
    assert (found is rule) == (params is not None)
    assert dict(given) == (params or {})


def test_the_first_match_wins() -> None:
    rules = [Rule(path="/a/b"), Rule(path="/a/*"), Rule(path="/*", methods=("POST", "PUT"))]
    matcher = Matcher(rules)
    for path, method, index in ((b"/a/b", b"POST", 0), (b"/a/c", b"POST", 1), (b"/a/b", b"PUT", 2), (b"/", b"POST", 2)):
        assert matcher.find(head(path, method))[0] is rules[index]
    assert matcher.find(head(b"/a/b", b"GET"))[0] is None


@pytest.mark.parametrize(
    ("host", "is_found"),
    [
        (b"events.example", True),
        (b"EVENTS.Example", True),
        (b"events.example:8080", True),
        (b"example", False),
        (b"x.events.example", False),
        (b"[::1]:80", False),
    ],
)
def test_a_host(host: bytes, is_found: bool) -> None:
    matcher = Matcher([Rule(path="/*", host="Events.example")])
    assert (matcher.find(head(b"/", host=host))[0] is not None) is is_found


def test_an_ipv6_host() -> None:
    matcher = Matcher([Rule(path="/*", host="[::1]")])
    assert matcher.find(head(b"/", host=b"[::1]:80"))[0] is not None
    assert matcher.find(head(b"/", host=b"[::1]"))[0] is not None


def test_what_was_found_is_kept_with_the_head() -> None:
    matcher = Matcher([Rule(path="/a/{id}")])
    request = head(b"/a/7")
    assert matcher.find(request)[1] is matcher.find(request)[1]


def test_what_was_found_is_kept_for_heads_that_differ_by_a_line() -> None:
    matcher = Matcher([Rule(path="/a/{id}")])
    parser = HeadParser(frozenset(), 100, 8192)
    known = [parser.parse(b"GET /a/7 HTTP/1.1\r\nHost: a\r\nX-Id: %d" % i) for i in range(600)]
    one, other = known[-2:]
    assert isinstance(one, RequestHead)
    assert isinstance(other, RequestHead)
    assert one is not other
    assert matcher.find(one)[1] is matcher.find(other)[1]


def test_a_preview_host_is_taken_beside_the_routes_own() -> None:
    own = Rule(path="/a", host="a.example", preview_host="New.Example")
    matcher = Matcher([own])
    for host in (b"a.example", b"new.example", b"NEW.example:8080"):
        assert matcher.find(head(b"/a", host=host))[0] is own
    assert matcher.find(head(b"/a", host=b"b.example"))[0] is None
    assert Matcher([Rule(path="/a", preview_host="new.example")]).find(head(b"/a", host=b"b.example"))[0] is not None
