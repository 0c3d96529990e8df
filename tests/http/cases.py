"""What becomes of requests, well-formed and hostile: the status, or the very bytes that a backend gets.

One table, read by the tests and by whoever writes it out as documentation, hence longer than a module
should be. Each case is a whole request
as a client sends it to a proxy with the limits below; `POST /events` is a route, everything else is
passed through to the default backend. References are to RFC 9112 and RFC 9110.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LIMITS: Final = {"max_event_size": "1KiB", "max_head_size": "2KiB", "max_headers": 20, "max_target_size": "256B"}
EVENT_SIZE: Final = 1024
HEAD_SIZE: Final = 2048
HEADERS: Final = 20
TARGET_SIZE: Final = 256


class Case(NamedTuple):
    """group: what it is about; name: unique; request: as sent; status: of the (first) answer.

    upstream: the bytes that reach a backend, when the request is served; empty when it is refused, and
    then the connection is closed after the answer.
    in_head: the head alone decides, so the parser by itself must say the same.
    """

    group: str
    name: str
    request: bytes
    status: int
    upstream: bytes = b""
    in_head: bool = True


_FORWARDED: Final = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nVia: 1.1 crossfade\r\n"


def _lines(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def request(*headers: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a", body: bytes = b"") -> bytes:
    """A request; host: the Host line, or empty for none."""
    return _lines(line, *([host] if host else []), *headers, b"") + body


def passed(*headers: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"a", body: bytes | None = None) -> bytes:
    """What the default backend gets; body: None when the request has none and needs no length."""
    framing = [] if body is None else [b"Content-Length: %d" % len(body)]
    start = _lines(line, b"Host: " + host, b"X-Forwarded-Host: " + host, *headers)
    return start + _FORWARDED + _lines(*framing, b"") + (body or b"")


def event(*headers: bytes, line: bytes = b"POST /events HTTP/1.1", body: bytes = b"{}", id: bytes = b"e1") -> bytes:
    """What the authority of an event gets."""
    framing = b"Content-Length: %d" % len(body)
    ours = _lines(
        b"X-Event-Id: " + id,
        b"X-Crossfade-Role: authority",
        b"X-Crossfade-Attempt: 1",
        framing,
    )
    start = _lines(line, b"Host: a", b"X-Forwarded-Host: a", *headers)
    return start + _FORWARDED + ours + b"\r\n" + body


def post(*headers: bytes, body: bytes = b"{}", line: bytes = b"POST /events HTTP/1.1") -> bytes:
    """An event as a client sends it, with the id e1 and a Content-Length."""
    return request(b"X-Event-Id: e1", *headers, b"Content-Length: %d" % len(body), line=line, body=body)


def _chunked(body: bytes, *headers: bytes) -> bytes:
    return request(b"X-Event-Id: e1", b"Transfer-Encoding: chunked", *headers, line=b"POST /events HTTP/1.1", body=body)


def _padded(size: int, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request whose head has exactly this many bytes before its empty line."""
    start = line + b"\r\nHost: a\r\nX-Pad: "
    return start + b"p" * (size - len(start)) + b"\r\n\r\n"


def _many(count: int) -> list[bytes]:
    return [b"X-%d: y" % i for i in range(count - 1)]


def _long(size: int) -> bytes:
    return b"/" + b"t" * (size - 1)


def _bad_lines() -> list[Case]:
    """A request line has one method, one target and one version, with one space between (9112, 3)."""
    refused = {
        "two spaces after the method": (b"GET  / HTTP/1.1", 400),
        "two spaces before the version": (b"GET /  HTTP/1.1", 400),
        "tab for a space": (b"GET\t/ HTTP/1.1", 400),
        "leading space": (b" GET / HTTP/1.1", 400),
        "trailing space": (b"GET / HTTP/1.1 ", 400),
        "space in the target": (b"GET /a b HTTP/1.1", 400),
        "no target": (b"GET HTTP/1.1", 400),
        "empty target": (b"GET  HTTP/1.1", 400),
        "no version: HTTP/0.9": (b"GET /", 400),
        "version 0.9": (b"GET / HTTP/0.9", 505),
        "version 1.2": (b"GET / HTTP/1.2", 505),
        "version 2.0": (b"GET / HTTP/2.0", 505),
        "version 2": (b"GET / HTTP/2", 505),
        "version 3.0": (b"GET / HTTP/3.0", 505),
        "version 1.10": (b"GET / HTTP/1.10", 400),
        "version 11.1": (b"GET / HTTP/11.1", 505),
        "version without minor": (b"GET / HTTP/1.", 400),
        "version in lower case": (b"GET / http/1.1", 400),
        "version of another protocol": (b"GET / ICY/1.1", 400),
        "bad method": (b"GE(T / HTTP/1.1", 400),
        "method with a colon": (b"GET: / HTTP/1.1", 400),
        "method with a NUL": (b"GE\x00T / HTTP/1.1", 400),
        "NUL in the target": (b"GET /\x00 HTTP/1.1", 400),
        "control byte in the target": (b"GET /\x01 HTTP/1.1", 400),
        "DEL in the target": (b"GET /\x7f HTTP/1.1", 400),
        "byte above ASCII in the target": (b"GET /\xc3\xa9 HTTP/1.1", 400),
        "bare CR in the target": (b"GET /\ra HTTP/1.1", 400),
        "bare LF in the target": (b"GET /\na HTTP/1.1", 400),
        "fragment in the target": (b"GET /a#b HTTP/1.1", 400),
        "target that is no path": (b"GET a HTTP/1.1", 400),
        "asterisk for GET": (b"GET * HTTP/1.1", 400),
        "CONNECT to an authority": (b"CONNECT a:80 HTTP/1.1", 501),
        "CONNECT to a path": (b"CONNECT / HTTP/1.1", 501),
        "absolute-form of another host": (b"GET http://b/ HTTP/1.1", 400),
        "absolute-form with another port": (b"GET http://a:81/ HTTP/1.1", 400),
        "absolute-form with credentials": (b"GET http://u:p@a/ HTTP/1.1", 400),
        "absolute-form of https": (b"GET https://a/ HTTP/1.1", 400),
        "absolute-form with a fragment": (b"GET http://a/#b HTTP/1.1", 400),
        "absolute-form without a path but a query": (b"GET http://a?q HTTP/1.1", 400),
        "authority-form for GET": (b"GET a:80 HTTP/1.1", 400),
    }
    return [Case("request line", name, request(line=line), status) for name, (line, status) in refused.items()]


def _good_lines() -> list[Case]:
    served = {
        "query": (b"GET /a?b=c&d HTTP/1.1", b"GET /a?b=c&d HTTP/1.1"),
        "question mark in a query": (b"GET /?a?b HTTP/1.1", b"GET /?a?b HTTP/1.1"),
        "percent-encoding is kept as it is": (b"GET /%2e%2e/%41 HTTP/1.1", b"GET /%2e%2e/%41 HTTP/1.1"),
        "dot segments are kept as they are": (b"GET /a/../b HTTP/1.1", b"GET /a/../b HTTP/1.1"),
        "two slashes": (b"GET //b/c HTTP/1.1", b"GET //b/c HTTP/1.1"),
        "unknown method": (b"PURGE / HTTP/1.1", b"PURGE / HTTP/1.1"),
        "method of odd token characters": (b"!M~ / HTTP/1.1", b"!M~ / HTTP/1.1"),
        "method in lower case is another method": (b"get / HTTP/1.1", b"get / HTTP/1.1"),
        "HTTP/1.0 is forwarded as HTTP/1.1": (b"GET / HTTP/1.0", b"GET / HTTP/1.1"),
        "asterisk for OPTIONS": (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        "absolute-form becomes origin-form": (b"GET http://a/b?c HTTP/1.1", b"GET /b?c HTTP/1.1"),
        "absolute-form in any case": (b"GET HTTP://A/b HTTP/1.1", b"GET /b HTTP/1.1"),
        "absolute-form without a path": (b"GET http://a HTTP/1.1", b"GET / HTTP/1.1"),
    }
    return [
        Case("request line", name, request(line=line), 200, passed(line=forwarded))
        for name, (line, forwarded) in served.items()
    ]


def _host() -> list[Case]:
    """Exactly one valid Host (9112, 3.2); RFC 9112 allows none in HTTP/1.0, but we forward as HTTP/1.1."""
    refused = {
        "no Host": request(host=b""),
        "no Host in HTTP/1.0": request(line=b"GET / HTTP/1.0", host=b""),
        "two Hosts": request(b"Host: b"),
        "the same Host twice": request(b"Host: a"),
        "two Hosts in different case": request(b"hOST: a"),
        "empty Host": request(host=b"Host:"),
        "Host with a space": request(host=b"Host: a b"),
        "Host list": request(host=b"Host: a, b"),
        "Host with a path": request(host=b"Host: a/b"),
        "Host with credentials": request(host=b"Host: u@a"),
        "Host with a bad port": request(host=b"Host: a:x"),
        "Host with a long port": request(host=b"Host: a:123456"),
        "Host with an empty port": request(host=b"Host: a:"),
        "Host with a byte above ASCII": request(host=b"Host: \xc3\xa9"),
        "Host with an unclosed bracket": request(host=b"Host: [::1"),
    }
    served = {b"a:8080": "with a port", b"[::1]:80": "an IPv6 address", b"A.Example": "its case is kept"}
    return [Case("host", name, data, 400) for name, data in refused.items()] + [
        Case("host", f"Host {name}", request(host=b"Host: " + host), 200, passed(host=host))
        for host, name in served.items()
    ]


def _bad_headers() -> list[Case]:
    """A header line is a token, a colon and a value without control bytes (9112, 5; 9110, 5.5)."""
    refused = {
        "space before the colon": b"X-A : b",
        "tab before the colon": b"X-A\t: b",
        "no colon": b"X-A",
        "empty name": b": b",
        "space in the name": b"X A: b",
        "parenthesis in the name": b"X(A): b",
        "byte above ASCII in the name": b"X-\xc3\xa9: b",
        "NUL in the name": b"X-\x00A: b",
        "NUL in the value": b"X-A: b\x00c",
        "control byte in the value": b"X-A: b\x01c",
        "escape in the value": b"X-A: \x1b[2J",
        "DEL in the value": b"X-A: b\x7f",
        "bare CR in the value": b"X-A: b\rX-B: c",
        "bare LF in the value": b"X-A: b\nX-B: c",
        "bare CR at the end": b"X-A: b\r",
        "folded with a space (obs-fold)": b"X-A: b\r\n c",
        "folded with a tab (obs-fold)": b"X-A: b\r\n\tc",
        "first line that begins with a space": b" X-A: b",
        "blanks before a bad byte": b"X-A:" + b" " * 1500 + b"\x01",
    }
    cases = [Case("headers", name, request(line), 400) for name, line in refused.items()]
    cases.append(Case("headers", "lines that end in LF alone", b"GET / HTTP/1.1\nHost: a\n\n", 400, in_head=False))
    cases.append(Case("headers", "one line that ends in LF alone", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400))
    return cases


def _good_headers() -> list[Case]:
    served = {
        "blanks around a value are dropped": (b"X-A: \t b c \t", b"X-A: b c"),
        "no blank before a value": (b"X-A:b", b"X-A: b"),
        "empty value": (b"X-A:", b"X-A: "),
        "tab within a value": (b"X-A: b\tc", b"X-A: b\tc"),
        "bytes above ASCII in a value": (b"X-A: \xc3\xa9", b"X-A: \xc3\xa9"),
        "odd token characters in a name": (b"X!#$%&'*+-.^_`|~0: b", b"X!#$%&'*+-.^_`|~0: b"),
        "the spelling of a name is kept": (b"x-LiKe: b", b"x-LiKe: b"),
        "colons in a value": (b"X-A: b:c", b"X-A: b:c"),
    }
    cases = [Case("headers", n, request(line), 200, passed(forwarded)) for n, (line, forwarded) in served.items()]
    twice = (b"X-A: 1", b"X-A: 2")
    cases.append(Case("headers", "a name that comes twice, in order", request(*twice), 200, passed(*twice)))
    hosts_last = b"GET / HTTP/1.1\r\nX-A: b\r\nHost: a\r\n\r\n"
    cases.append(Case("headers", "Host is put first", hosts_last, 200, passed(b"X-A: b")))
    return cases


def _lengths() -> list[Case]:
    """Content-Length is digits, once (9112, 6.3; 9110, 8.6)."""
    line = b"POST /events HTTP/1.1"
    refused = {
        "leading zero": b"010",
        "plus sign": b"+1",
        "minus sign": b"-1",
        "underscore": b"1_0",
        "hexadecimal": b"0x1",
        "fraction": b"1.0",
        "list of one value": b"1, 1",
        "list of two values": b"1, 2",
        "space within": b"1 1",
        "letters": b"ten",
        "empty": b"",
        "digits that are not ASCII": b"\xd9\xa1",
        "more digits than a number has": b"9" * 40,
    }
    cases = [
        Case("length", f"Content-Length: {name}", request(b"Content-Length: " + value, line=line, body=b"x"), 400)
        for name, value in refused.items()
    ]
    same = request(b"Content-Length: 1", b"Content-Length: 1", line=line, body=b"x")
    differing = request(b"Content-Length: 1", b"Content-Length: 2", line=line, body=b"xy")
    huge = request(b"Content-Length: 999999999999999999", line=line)
    zero = request(b"X-Event-Id: e1", b"Content-Length: 0", line=line)
    none = request(b"X-Event-Id: e1", line=line)
    no_body = passed(line=b"POST /x HTTP/1.1", body=b"")
    return [
        *cases,
        Case("length", "twice the same", same, 400),
        Case("length", "twice, differing", differing, 400),
        Case("length", "huge", huge, 413, in_head=False),
        Case("length", "zero", zero, 200, event(body=b"")),
        Case("length", "none on POST is no body", none, 200, event(body=b"")),
        Case("length", "passed through, POST has a length", request(line=b"POST /x HTTP/1.1"), 200, no_body),
        Case("length", "GET with a body", request(b"Content-Length: 1", body=b"x"), 200, passed(body=b"x")),
        Case("length", "in any case", request(b"cOnTeNt-LeNgTh: 1", body=b"x"), 200, passed(body=b"x")),
    ]


def _encodings() -> list[Case]:
    """Transfer-Encoding is exactly `chunked`, alone, in HTTP/1.1 (9112, 6.1)."""
    line = b"POST /events HTTP/1.1"
    body = b"2\r\n{}\r\n0\r\n\r\n"
    refused = {
        "comma before": b",chunked",
        "comma after": b"chunked,",
        "gzip before": b"gzip, chunked",
        "identity": b"identity",
        "identity before": b"identity, chunked",
        "twice in one line": b"chunked, chunked",
        "chunked, then gzip": b"chunked, gzip",
        "another word": b"xchunked",
        "a word with a tail": b"chunkedx",
        "a parameter": b"chunked;q=1",
        "quoted": b'"chunked"',
        "vertical tab": b"\x0bchunked",
        "empty": b"",
    }
    cases = [
        Case("encoding", f"Transfer-Encoding: {n}", request(b"Transfer-Encoding: " + v, line=line, body=body), 400)
        for n, v in refused.items()
    ]
    te, length = b"Transfer-Encoding: chunked", b"Content-Length: 12"
    more = {
        "with a length after": request(te, length, line=line, body=body),
        "with a length before": request(length, te, line=line, body=body),
        "with a length of zero": request(te, b"Content-Length: 0", line=line, body=body),
        "twice": request(te, te, line=line, body=body),
        "in HTTP/1.0": request(te, line=b"POST /events HTTP/1.0", body=body),
        "space before its colon": request(b"Transfer-Encoding : chunked", line=line, body=body),
        "folded": request(b"Transfer-Encoding:\r\n chunked", line=line, body=body),
    }
    cases += [Case("encoding", f"Transfer-Encoding {name}", data, 400) for name, data in more.items()]
    upper = request(b"X-Event-Id: e1", b"TRANSFER-ENCODING: Chunked", line=line, body=body)
    underscore = post(b"Transfer_Encoding: chunked")
    return [
        *cases,
        Case("encoding", "chunked becomes a length", _chunked(body), 200, event()),
        Case("encoding", "Chunked in any case", upper, 200, event()),
        Case("encoding", "what CGI takes for Transfer-Encoding is dropped", underscore, 200, event()),
    ]


def _chunks() -> list[Case]:
    """Chunks (9112, 7.1): CRLF alone, extensions and trailers read and dropped."""
    refused = {
        "size that is no number": b"x\r\n{}\r\n0\r\n\r\n",
        "size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
        "size with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
        "size with a space before": b" 2\r\n{}\r\n0\r\n\r\n",
        "size with a space after": b"2 \r\n{}\r\n0\r\n\r\n",
        "empty size": b"\r\n{}\r\n0\r\n\r\n",
        "size of sixteen digits": b"0000000000000002\r\n{}\r\n0\r\n\r\n",
        "data longer than its size": b"1\r\n{}\r\n0\r\n\r\n",
        "data that is followed by other bytes": b"2\r\n{}xx0\r\n\r\n",
        "data that ends in LF": b"2\r\n{}\n0\r\n\r\n",
        "size that ends in LF": b"2\n{}\r\n0\r\n\r\n",
        "size that ends in CR": b"2\r{}\r\n0\r\n\r\n",
        "extension with a bare CR": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
        "extension with a control byte": b"2;a\x01\r\n{}\r\n0\r\n\r\n",
        "extension too long": b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
        "trailer without a colon": b"2\r\n{}\r\n0\r\nX\r\n\r\n",
        "trailer with a control byte": b"2\r\n{}\r\n0\r\nX: \x01\r\n\r\n",
        "trailer with a space before its colon": b"2\r\n{}\r\n0\r\nX : y\r\n\r\n",
        "trailers too long": b"2\r\n{}\r\n0\r\n" + b"X: yyyyyyyyyyyyyyyy\r\n" * 1000 + b"\r\n",
    }
    served = {
        "two": b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        "hexadecimal in any case, leading zeros": b"00002\r\n{}\r\n000\r\n\r\n",
        "extension": b"2;a=b;c\r\n{}\r\n0;d\r\n\r\n",
        "extension after blanks": b"2 \t;a\r\n{}\r\n0\r\n\r\n",
        "trailers are dropped": b"2\r\n{}\r\n0\r\nX-Event-Id: e2\r\nContent-Length: 5\r\n\r\n",
    }
    return [Case("chunks", f"chunk {n}", _chunked(b), 400, in_head=False) for n, b in refused.items()] + [
        Case("chunks", f"chunks: {n}", _chunked(b), 200, event(), in_head=False) for n, b in served.items()
    ]


def _hop_by_hop() -> list[Case]:
    """Headers of this hop end here, those that Connection names too (9110, 7.6.1)."""
    dropped = (
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic eDp5",
        b"Proxy-Authenticate: Basic",
        b"TE: trailers",
        b"Trailer: X-A",
        b"Upgrade: h2c",
        b"Connection: X-A",
        b"Connection:",
        b"Connection: ,, ,",
    )
    cases = [
        Case("hop-by-hop", f"{line.partition(b':')[0].decode()} ends here ({i})", request(line), 200, passed())
        for i, line in enumerate(dropped)
    ]
    nominated = request(b"X-A: 1", b"Connection: keep-alive, x-a ,X-B", b"X-B: 2", b"X-C: 3")
    over_lines = request(b"Connection: x-a", b"X-A: 1", b"Connection: x-b", b"X-B: 2", b"X-C: 3")
    cases += [
        Case("hop-by-hop", "what Connection names ends here", nominated, 200, passed(b"X-C: 3")),
        Case("hop-by-hop", "what two Connection lines name ends here", over_lines, 200, passed(b"X-C: 3")),
        Case("hop-by-hop", "ours cannot be named away", post(b"Connection: x-forwarded-for, via"), 200, event()),
    ]
    cases += [
        Case("hop-by-hop", f"Connection must not name {name.decode()}", post(b"Connection: close, " + name), 400)
        for name in (b"Host", b"Content-Length", b"Transfer-Encoding", b"Authorization", b"X-Event-Id")
    ]
    upgrade = (b"Connection: upgrade", b"Upgrade: websocket")
    cases += [
        Case("hop-by-hop", "a body on Upgrade", request(*upgrade, b"Content-Length: 1", body=b"x"), 400),
        Case("hop-by-hop", "chunks on Upgrade", request(*upgrade, b"Transfer-Encoding: chunked"), 400),
        Case("hop-by-hop", "a length of zero on Upgrade", request(*upgrade, b"Content-Length: 0"), 200, passed()),
    ]
    return cases


def _ours() -> list[Case]:
    """Who the client is and what Crossfade says is ours to set; a client's word for it is dropped."""
    names = (
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "x-forwarded-anything",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "Forwarded",
        "X-Crossfade-Role",
        "X-Crossfade-Attempt",
        "x-crossfade-anything",
        "X_Crossfade_Role",
        "X_Event_Id",
        "Content_Length",
    )
    return [Case("ours", f"{name} of a client", post(name.encode() + b": spoofed"), 200, event()) for name in names] + [
        Case("ours", "Via of a client is kept", post(b"Via: 1.0 b"), 200, event(b"Via: 1.0 b"))
    ]


def _ids() -> list[Case]:
    line = b"POST /events HTTP/1.1"
    key = (b"Idempotency-Key: k1", b"Content-Length: 2")
    keyed = event(b"Idempotency-Key: k1", id=b"k1")
    return [
        Case("ids", "the id of a client", post(), 200, event()),
        Case("ids", "Idempotency-Key is an id", request(*key, line=line, body=b"{}"), 200, keyed),
        Case("ids", "two ids", post(b"X-Event-Id: e2"), 400),
        Case("ids", "an id with a space", request(b"X-Event-Id: a b", line=line), 400, in_head=False),
        Case("ids", "an id that is not ASCII", request(b"X-Event-Id: \xe9", line=line), 400, in_head=False),
        Case("ids", "an id that is too long", request(b"X-Event-Id: " + b"i" * 513, line=line), 400, in_head=False),
    ]


def _expectations() -> list[Case]:
    expect = b"Expect: 100-continue"
    return [
        Case("expect", "another expectation", post(b"Expect: 200-ok"), 417),
        Case("expect", "no expectation", post(b"Expect:"), 417),
        Case("expect", "100-continue with its body", post(expect), 200, event()),
        Case("expect", "100-Continue in any case", post(b"Expect: 100-Continue"), 200, event()),
        Case("expect", "without a body", request(expect), 200, passed()),
        Case("expect", "in HTTP/1.0", post(expect, line=b"POST /events HTTP/1.0"), 200, event()),
    ]


def _limits() -> list[Case]:
    body = b"b" * EVENT_SIZE
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (EVENT_SIZE, body)
    over = b"%x\r\n%b\r\n0\r\n\r\n" % (EVENT_SIZE + 1, body + b"b")
    under = b"b" * (EVENT_SIZE - 1)
    cases = []
    for size, status in ((TARGET_SIZE - 1, 200), (TARGET_SIZE, 200), (TARGET_SIZE + 1, 414), (TARGET_SIZE * 9, 414)):
        line = b"GET %b HTTP/1.1" % _long(size)
        served = passed(line=line) if status == 200 else b""
        is_whole = size < HEAD_SIZE
        cases.append(Case("limits", f"target of {size} bytes", request(line=line), status, served, in_head=is_whole))
    for size, status in ((HEAD_SIZE - 1, 200), (HEAD_SIZE, 200), (HEAD_SIZE + 1, 431), (HEAD_SIZE * 9, 431)):
        data = _padded(size)
        served = passed(data.split(b"\r\n")[2]) if status == 200 else b""
        cases.append(Case("limits", f"head of {size} bytes", data, status, served, in_head=status == 200))
    for count, status in ((HEADERS - 1, 200), (HEADERS, 200), (HEADERS + 1, 431)):
        served = passed(*_many(count)) if status == 200 else b""
        cases.append(Case("limits", f"{count} header lines", request(*_many(count)), status, served))
    return [
        *cases,
        Case("limits", "body one below", post(body=under), 200, event(body=under)),
        Case("limits", "body at the limit", post(body=body), 200, event(body=body)),
        Case("limits", "body one above", post(body=body + b"b"), 413, in_head=False),
        Case("limits", "chunks at the limit", _chunked(chunks), 200, event(body=body), in_head=False),
        Case("limits", "chunks one above", _chunked(over), 413, in_head=False),
        Case("limits", "a chunk far above", _chunked(b"fffffffffffffff\r\n" + body * 2), 413, in_head=False),
    ]


def _around() -> list[Case]:
    """What stands before and after a request."""
    two = post() + request()
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64))
    return [
        Case("around", "an empty line before", b"\r\n" + request(), 200, passed(), in_head=False),
        Case("around", "two empty lines before", b"\r\n\r\n" + request(), 400, in_head=False),
        Case("around", "a bare LF before", b"\n" + request(), 400, in_head=False),
        Case("around", "nothing but an empty line", b"\r\n\r\n", 400, in_head=False),
        Case("around", "a TLS handshake", tls, 400, in_head=False),
        Case("around", "an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        Case("around", "two requests at once", two, 200, event() + passed(), in_head=False),
        Case("around", "bytes after a refused request", request(b"X A: b") + request(), 400),
        Case("around", "a body that is a request", post(body=request()), 200, event(body=request())),
    ]


CASES: Final = [
    *_bad_lines(),
    *_good_lines(),
    *_host(),
    *_bad_headers(),
    *_good_headers(),
    *_lengths(),
    *_encodings(),
    *_chunks(),
    *_hop_by_hop(),
    *_ours(),
    *_ids(),
    *_expectations(),
    *_limits(),
    *_around(),
]
"""All of them."""
