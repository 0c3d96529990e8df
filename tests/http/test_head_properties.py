"""The head parser against anything: it never raises, and what it takes, h11 and httptools read in the same way."""

from __future__ import annotations

import h11
import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.http.head import HeadParser, Refusal, RequestHead
from proxy.http.request import context_of
from proxy.http.response_head import ResponseHead, ResponseHeads, parse_response_head

WANTED = frozenset({b"x-key"})

names = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"X-Key", b"X-A", b"x-b"]
) | st.from_regex(rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}\Z")
values = st.sampled_from(
    [b"a", b"a:80", b"0", b"5", b"05", b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"X-A", b"websocket", b""]
) | st.binary(max_size=12)
blanks = st.sampled_from([b"", b" ", b"\t", b" \t "])
separators = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n ", b"\r\n\t"])
colons = st.sampled_from([b":"] * 12 + [b" :", b"", b"::"])
MANY = settings(max_examples=max(500, settings().max_examples))
targets = st.sampled_from([b"/", b"/a?b", b"*", b"http://a/b", b"http://b/", b"a:80", b"/a#b", b""]) | st.binary(
    max_size=8
)
versions = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.2", b""])
methods = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT", b"get", b"PU T", b"\xc3"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Heads that are nearly right, so that most of the grammar is reached."""
    parts = [draw(methods), b" ", draw(targets), b" ", draw(versions)]
    if draw(st.integers(0, 9)):
        parts += [b"\r\n", b"Host: a"]
    for _ in range(draw(st.integers(0, 5))):
        parts += [draw(separators), draw(names), draw(colons), draw(blanks), draw(values), draw(blanks)]
    return b"".join(parts)


def parse(raw: bytes) -> RequestHead | Refusal:
    return HeadParser(WANTED, 100, 8192).parse(raw)


@MANY
@given(st.binary(max_size=300) | heads())
@example(b"\r\n")
def test_any_bytes_get_a_head_or_a_refusal(raw: bytes) -> None:
    head = parse(raw.partition(b"\r\n\r\n")[0])
    if isinstance(head, Refusal):
        assert head.status in (400, 414, 417, 431, 501, 505)
        assert head.reason
    else:
        assert b"\n" not in head.target + head.method
        assert head.lines == b"" or head.lines.endswith(b"\r\n")


def framing(length: int, chunked: bool) -> str:
    return "chunked" if chunked else str(length)


@MANY
@given(heads())
@example(b"GET http://a/b?c HTTP/1.1\r\nHost: A")
def test_h11_reads_an_accepted_head_in_the_same_way(raw: bytes) -> None:
    head = parse(raw)
    if isinstance(head, Refusal):
        return  # stricter than h11 on purpose: tests.http.cases says where
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw + b"\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == head.method
    if head.target == event.target:
        assert event.target.startswith((b"/", b"*"))
    else:  # absolute-form, made origin-form
        assert event.target.lower().startswith(b"http://")
        assert event.target.endswith(head.target) or head.target == b"/"
    found = {name: value for name, value in event.headers if name in (b"content-length", b"transfer-encoding", b"host")}
    assert found[b"host"] == head.host
    told = framing(int(found.get(b"content-length", b"0")), b"transfer-encoding" in found)
    assert told == framing(head.length, head.chunked)
    plain = [line.partition(b": ")[::2] for line in head.lines.split(b"\r\n")[:-1]]
    theirs = list(event.headers.raw_items())
    for name, value in plain:
        if name != b"X-Forwarded-Host":
            assert (name, value) in theirs


class Collected:
    """What httptools' callbacks say."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


KNOWN_TO_LLHTTP = (b"GET", b"POST", b"OPTIONS")


@MANY
@given(heads())
def test_httptools_reads_an_accepted_head_in_the_same_way(raw: bytes) -> None:
    head = parse(raw)
    if isinstance(head, Refusal) or head.method not in KNOWN_TO_LLHTTP:
        return  # llhttp knows a list of methods, we take any token
    seen = Collected()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(raw + b"\r\n\r\n")
    except httptools.HttpParserUpgrade:
        assert b"upgrade" in raw.lower()
    assert seen.is_complete
    assert parser.get_method() == head.method
    assert parser.get_http_version() == f"1.{head.minor}"
    assert seen.url.endswith(head.target) or head.target == b"/"
    lengths = [value.strip() for name, value in seen.headers if name.lower() == b"content-length"]
    assert [int(value) for value in lengths] == ([head.length] if lengths else [])


@MANY
@given(heads())
def test_what_we_write_is_read_as_the_same_head(raw: bytes) -> None:
    head = parse(raw)
    if isinstance(head, Refusal):
        return
    written = context_of(head, b"").removesuffix(b"\r\n")
    again = parse(written)
    assert isinstance(again, RequestHead)
    assert (again.method, again.target, again.host) == (head.method, head.target, head.host)
    assert again.lines == head.lines
    assert not again.chunked
    assert again.length == 0


@given(st.lists(heads(), min_size=1, max_size=8))
def test_a_parser_that_has_seen_others_says_the_same_as_a_new_one(raws: list[bytes]) -> None:
    used = HeadParser(WANTED, 100, 8192)
    for raw in [*raws, *raws, *reversed(raws)]:
        kept, new = used.parse(raw), parse(raw)
        same(kept, new)


def same(kept: RequestHead | Refusal, new: RequestHead | Refusal) -> None:
    if isinstance(kept, Refusal) or isinstance(new, Refusal):
        assert kept == new
        return
    for field in ("method", "target", "minor", "path", "query", "keep_alive", "host", "length", "chunked", "id_line"):
        assert getattr(kept, field) == getattr(new, field)
    assert kept.expects_continue == new.expects_continue
    assert (kept.wanted or {}) == (new.wanted or {})
    # A line that was new may stand after those that were known, never after one of its own name.
    assert sorted(kept.lines.split(b"\r\n")) == sorted(new.lines.split(b"\r\n"))
    assert by_name(kept.lines) == by_name(new.lines)


twin_names = st.sampled_from([b"X-Key", b"X-Event-Id", b"X-Other", b"Te", b"Content-Length", b"Host", b"Connection"])
PIECES = [b"a", b"7", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b":", b"X-Key: b", b"Content-Length: 9", b"\xe9"]
twin_values = st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join)


@given(twin_names, st.lists(twin_values, min_size=1, max_size=6), st.booleans())
def test_heads_that_differ_in_one_value_are_read_as_by_a_new_parser(
    name: bytes, values: list[bytes], is_last: bool
) -> None:
    used = HeadParser(WANTED, 100, 8192)
    for value in [b" first", b" second", *values, *values]:
        others = [b"Accept: */*", b"Content-Length: 5"]
        others.insert(2 if is_last else 1, name + b":" + value)
        raw = b"\r\n".join([b"POST /x HTTP/1.1", b"Host: a", *others])
        same(used.parse(raw), parse(raw))


def test_a_value_that_changes_from_head_to_head_is_found_without_cutting_lines() -> None:
    parser = HeadParser(WANTED, 100, 8192)
    found = [parser.parse(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Key: %d\r\nContent-Length: 5" % i) for i in range(600)]
    wanted = [each.wanted for each in found if isinstance(each, RequestHead)]
    assert wanted == [{b"x-key": b"%d" % i} for i in range(600)]
    [twins] = parser._twins
    assert parser._names[b"X-Key"].seen < 5, "only the first ones were cut into lines"
    assert twins.base is found[-1].base  # type: ignore[union-attr]


def by_name(lines: bytes) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        found.setdefault(line.partition(b":")[0].lower(), []).append(line)
    return found


def test_what_is_kept_stays_bounded() -> None:
    parser = HeadParser(WANTED, 100, 8192)
    for i in range(20_000):
        raw = b"GET /%d HTTP/1.1\r\nHost: h%d\r\nN%d: v\r\nX-Key: %d\r\nX-Same: y" % (i, i % 3000, i, i)
        assert isinstance(parser.parse(raw), RequestHead)
    assert len(parser._lines) <= 8192
    assert len(parser._heads) <= 1024
    assert len(parser._names) <= 256
    assert len(parser._twins) <= 4


statuses = st.sampled_from([b"200", b"204", b"304", b"404", b"101", b"100", b"600", b"099", b"20", b"2000"])


@st.composite
def response_heads(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0"]))
    parts = [version, b" ", draw(statuses), draw(st.sampled_from([b" OK", b"", b" ", b" \xe9"]))]
    for _ in range(draw(st.integers(0, 5))):
        parts += [draw(separators), draw(names), draw(colons), draw(blanks), draw(values), draw(blanks)]
    return b"".join(parts)


@MANY
@given(st.binary(max_size=200) | response_heads())
def test_a_response_head_is_read_as_h11_reads_it(raw: bytes) -> None:
    raw = raw.partition(b"\r\n\r\n")[0]
    head = parse_response_head(raw)
    assert ResponseHeads().parse(raw) == head
    if head is None or head.status == 101:
        return  # 101 is refused one step later: nothing was to be upgraded
    assert 100 <= head.status < 600
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw + b"\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert event.status_code == head.status
    found = dict(event.headers)
    assert (b"transfer-encoding" in found) or head.framing != 2
    if head.length >= 0 and b"content-length" in found:
        assert int(found[b"content-length"]) == head.length


@MANY
@given(response_heads())
def test_a_response_head_that_we_write_is_read_as_the_same(raw: bytes) -> None:
    head = parse_response_head(raw)
    if head is None:
        return
    again = parse_response_head(head.start.removesuffix(b"\r\n"))
    assert isinstance(again, ResponseHead)
    assert again.status == head.status
    assert again.start == head.start
