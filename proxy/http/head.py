"""Request heads: bytes -> typed head -> our own bytes; never forwarded raw.

Written flat because every event passes here. The grammar is RFC 9112 and RFC 9110 without their
leniencies: what two parsers could read in two ways is refused. httptools was measured beside it (its
callbacks cost as much as this whole function, and each of its leniencies would have to be found
again in the raw bytes); DECISIONS.md has the figures.

Header lines repeat from request to request, so a parsed line is kept: `HeadParser` looks a line up in
a dict and parses only what it has not seen. A head all of whose lines were seen before is kept whole;
one that differs from such a head by a line or two, as an event id does, is made from it; and of the last
few that differ by one line, what stands around its value is kept (`Twins`), so that the next one is found
without being cut into lines. The dicts are emptied when full, and what is long never enters.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/(\d)\.(\d)")
_NAME: Final = re.compile(TOKEN)
# The blanks are possessive: given back one by one, 16 KiB of them before a bad byte took 400 ms.
FIELD_VALUE: Final = rb"[ \t]*+((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*+"
_VALUE: Final = re.compile(FIELD_VALUE)
_VALUE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
LENGTH: Final = re.compile(rb"0|[1-9]\d{0,17}")
_VERSION_LIKE: Final = re.compile(rb"[^ ]+ [^ ]+ HTTP/\d+(?:\.\d+)?")

# What a header line means to a proxy.
PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
UPGRADE: Final = 5
EXPECT: Final = 6
DROPPED: Final = 7
"""Hop-by-hop, or ours to set: not forwarded."""

_REQUEST_KINDS: Final = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
} | dict.fromkeys(
    (
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"forwarded",
        b"x-event-id",
    ),
    DROPPED,
)
_OURS: Final = (b"x-forwarded-", b"x-crossfade-")
FORWARDING: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
"""Lists of what each hop said: several lines are one (RFC 9110, 5.3)."""
_JOINED: Final = FORWARDING | {b"traceparent"}
"""Of those that are read, which may come more than once. Several `traceparent`s are as good as none."""

_NOT_HOP_BY_HOP: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-event-id"})
_EVENT_ID: Final = b"x-event-id"
_FRESH_LINES: Final = 2
_KEPT_TWINS: Final = 4
_KEPT_NAMES: Final = 256
_KEPT_PER_NAME: Final = 512
_KEPT_LINES: Final = 8192
_KEPT_LINE_SIZE: Final = 256
_KEPT_HEADS: Final = 1024
_KEPT_HEAD_SIZE: Final = 2048


class HeaderName:
    """A header name. spelled: as it came, name: in lower case; seen: how many different lines it came with."""

    __slots__ = ("kind", "name", "seen", "spelled", "wanted")

    def __init__(self, spelled: bytes, name: bytes, kind: int, wanted: bool) -> None:
        self.spelled = spelled
        self.name = name
        self.kind = kind
        self.wanted = wanted
        self.seen = 0


class Header:
    """One header line. name, kind, wanted: those of its header; out: the line as we forward it, with CRLF."""

    __slots__ = ("kind", "name", "of", "out", "value", "wanted")

    def __init__(self, of: HeaderName, value: bytes, out: bytes) -> None:
        self.of = of
        self.name = of.name
        self.kind = of.kind
        self.wanted = of.wanted
        self.value = value
        self.out = out


class Refusal(NamedTuple):
    """Why a request is not served. status: 400-505; the connection is closed after it."""

    status: int
    reason: str


class RequestHead:
    """A request head that was found valid. The same object serves every request with the same bytes.

    target, path, query: as received, path and query split at the first `?`; host: the Host value
    lines: end-to-end header lines in our own form, joined, Host first among equals
    length: bytes of body to come, 0 without one; chunked: the body comes in chunks
    wanted: values of the headers that some route reads, by lower-case name
    id_line: its X-Event-Id line, which an event replaces by its own
    names: lower-case names of its headers, and those that Connection names
    upgrade: what Upgrade and Connection ask to be spoken instead, in lower case; empty without both
    base: the head that it is but for a line or two; None when it was parsed whole
    match: what `proxy.http.matching` found, kept with the base, whose method, host and path are the same
    """

    __slots__ = (
        "method", "target", "minor", "path", "query", "keep_alive", "host", "lines", "length", "chunked",
        "expects_continue", "wanted", "names", "upgrade", "id_line", "base", "match",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes, minor: int, path: bytes, query: bytes, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.path = path
        self.query = query
        self.keep_alive = keep_alive
        self.host = b""
        self.lines = b""
        self.length = 0
        self.chunked = False
        self.expects_continue = False
        self.wanted: dict[bytes, bytes] | None = None
        self.names: frozenset[bytes] = frozenset()
        self.upgrade = b""
        self.id_line = b""
        self.base: RequestHead | None = None
        self.match: Any = None

    def with_line(self, name: HeaderName, value: bytes) -> RequestHead:
        """The same head with one line more, of a header that it does not have, plain or not forwarded."""
        head = RequestHead(self.method, self.target, self.minor, self.path, self.query, self.keep_alive)
        head.host = self.host
        head.length = self.length
        head.chunked = self.chunked
        head.expects_continue = self.expects_continue
        head.names = self.names
        head.upgrade = self.upgrade
        head.id_line = self.id_line
        head.lines = self.lines
        if name.kind == PLAIN:
            head.lines = b"%b%b: %b\r\n" % (self.lines, name.spelled, value)
        elif name.name == _EVENT_ID:
            head.id_line = b"%b: %b\r\n" % (name.spelled, value)
        head.wanted = self.wanted
        if name.wanted:
            head.wanted = {name.name: value} if self.wanted is None else {**self.wanted, name.name: value}
        head.base = self.base or self
        return head


class Twins:
    """Heads that are the same but for one header's value.

    before, after: the bytes around the value, up to its colon and from its CRLF on (empty after the last line)
    base: the head without that line; name: the line's header
    """

    __slots__ = ("after", "base", "before", "ends", "name")

    def __init__(self, lines: list[bytes], fresh: int, base: RequestHead, name: HeaderName) -> None:
        self.before = b"\r\n".join([*lines[:fresh], name.spelled + b":"])
        self.after = b"\r\n".join([b"", *lines[fresh + 1 :]]) if fresh + 1 < len(lines) else b""
        self.ends = len(self.before) + len(self.after)
        self.base = base
        self.name = name

    def find(self, raw: bytes) -> RequestHead | None:
        """The head of these bytes when it is one of these."""
        if len(raw) < self.ends or not raw.startswith(self.before) or not raw.endswith(self.after):
            return None
        value = raw[len(self.before) : len(raw) - len(self.after)].strip(b" \t")
        if value.translate(None, _VALUE_BYTES):  # as `_VALUE` has it, in a third of its time
            return None
        return self.base.with_line(self.name, value)


class HeadParser:
    """Parses request heads. wanted: lower-case names of headers that routes read.

    max_headers, max_target_size: limits, lines and bytes. The head's own size is the caller's to limit
    because it knows before the head is complete.
    """

    __slots__ = ("_heads", "_learnt", "_lines", "_max_headers", "_max_target_size", "_names", "_twins", "_wanted")

    def __init__(self, wanted: frozenset[bytes], max_headers: int, max_target_size: int) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._learnt = 0
        self._names: dict[bytes, HeaderName] = {}
        self._wanted = wanted
        self._max_headers = max_headers
        self._max_target_size = max_target_size
        self._lines: dict[bytes, Header] = {}
        self._twins: list[Twins] = []
        """The more often they are found the further in front."""

    @property
    def wanted(self) -> frozenset[bytes]:
        """Names of the headers whose values are kept."""
        return self._wanted

    def parse(self, raw: bytes) -> RequestHead | Refusal:
        """Parse the bytes before the empty line."""
        twins = self._twins
        for i in range(len(twins)):
            twin = twins[i].find(raw)
            if twin is not None:
                if i:
                    twins[i - 1], twins[i] = twins[i], twins[i - 1]
                return twin
        known = self._heads.get(raw)
        if known is not None:
            return known
        lines = raw.split(b"\r\n")
        kept = self._lines
        fresh = [line for line in lines[1:] if line not in kept]
        if 0 < len(fresh) <= _FRESH_LINES and len(lines) <= self._max_headers:
            extended = self._extend(lines, fresh)
            if extended is not None:
                return extended
        return self._parse_whole(raw, lines)

    def _extend(self, lines: list[bytes], fresh: list[bytes]) -> RequestHead | None:
        """A known head with a line or two that never came before, such as an event id; None when it is not that."""
        familiar = lines[:1] + [line for line in lines[1:] if line not in fresh]
        raw = b"\r\n".join(familiar)
        base = self._heads.get(raw) or self._parse_whole(raw, familiar)
        if not isinstance(base, RequestHead):
            return None
        head, names = base, base.names
        for line in fresh:
            header = self._learn(line)
            if header is None or header.kind not in (PLAIN, DROPPED) or header.name in names:
                return None  # the whole parse says what it is
            names = names | {header.name}
            head = head.with_line(header.of, header.value)
            if len(fresh) == 1 and len(raw) <= _KEPT_HEAD_SIZE:
                self._twins = [*self._twins[: _KEPT_TWINS - 1], Twins(lines, lines.index(line), base, header.of)]
        return head

    def _parse_whole(self, raw: bytes, lines: list[bytes]) -> RequestHead | Refusal:
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            return _bad_request_line(lines[0], self._max_target_size)
        method, target, major, minor = match.groups()
        if major != b"1" or minor not in b"01":
            return Refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        if len(target) > self._max_target_size:
            return Refusal(414, f"request target longer than {self._max_target_size} bytes")
        if len(lines) - 1 > self._max_headers:
            return Refusal(431, f"more than {self._max_headers} header lines")
        path, _, query = target.partition(b"?")
        head = RequestHead(method, target, minor[0] - 48, path, query, minor == b"1")
        learnt = self._learnt
        refusal = self._read_headers(head, lines)
        if refusal is None:
            refusal = _resolve_target(head)
        if refusal is not None:
            return refusal
        if learnt == self._learnt and len(raw) <= _KEPT_HEAD_SIZE:  # no line was new, so it may well come again
            if len(self._heads) >= _KEPT_HEADS:
                self._heads.clear()
            self._heads[raw] = head
        return head

    def _read_headers(self, head: RequestHead, lines: list[bytes]) -> Refusal | None:
        """Every line after the first: plain ones are forwarded, the others say how to read the message."""
        kept = self._lines
        plain: list[Header] = []
        special: list[Header] = []
        for i in range(1, len(lines)):
            header = kept.get(lines[i]) or self._learn(lines[i])
            if header is None:
                return Refusal(400, "malformed header line")
            if header.wanted:
                value = header.value
                if head.wanted is None:
                    head.wanted = {}
                elif header.name in head.wanted:
                    if header.name not in _JOINED:
                        return Refusal(400, f"{header.name.decode()} is given twice")
                    value = head.wanted[header.name] + b", " + value
                head.wanted[header.name] = value
            (special if header.kind else plain).append(header)
        refusal = _apply_special(head, special)
        if refusal is not None:
            return refusal
        nominated = _apply_connection(head, special)
        if nominated is not None:
            if nominated & _NOT_HOP_BY_HOP:
                return Refusal(400, "Connection names a header that is not hop-by-hop")
            plain = [header for header in plain if header.name not in nominated]
        head.names = frozenset([header.name for header in plain + special]) | (nominated or frozenset())
        head.id_line = b"".join([header.out for header in special if header.name == _EVENT_ID])
        host = [header.out for header in special if header.kind == HOST]
        head.lines = b"".join(host + [header.out for header in plain])
        return None

    def _learn(self, line: bytes) -> Header | None:
        """Parse a header line that was not seen before; None when it is malformed.

        Lines of a name that keeps coming with other values (ids, keys) are not kept.
        """
        spelled, colon, rest = line.partition(b":")
        known = self._names.get(spelled) or self._learn_name(spelled)
        match = _VALUE.fullmatch(rest)
        if known is None or match is None or not colon:
            return None
        value = match[1]
        out = b"%b: %b\r\n" % (spelled, value)
        if known.kind == HOST:
            if _HOST.fullmatch(value) is None:
                return None
            out += b"X-Forwarded-Host: %b\r\n" % value
        header = Header(known, value, out)
        self._learnt += 1
        known.seen += 1
        if known.seen <= _KEPT_PER_NAME and len(line) <= _KEPT_LINE_SIZE:
            if len(self._lines) >= _KEPT_LINES:
                self._forget()
            self._lines[line] = header
        return header

    def _learn_name(self, spelled: bytes) -> HeaderName | None:
        if _NAME.fullmatch(spelled) is None:
            return None
        name = spelled.lower()
        known = HeaderName(spelled, name, _request_kind(name), name in self._wanted)
        if len(spelled) <= _KEPT_LINE_SIZE:
            if len(self._names) >= _KEPT_NAMES:
                self._forget()
            self._names[spelled] = known
        return known

    def _forget(self) -> None:
        """Start anew: what is kept stays bounded whatever clients send."""
        self._names.clear()
        self._lines.clear()
        self._heads.clear()
        self._twins = []


def _request_kind(name: bytes) -> int:
    """What a header means to us. Whole families are ours to set, and so is what CGI-like backends take for them."""
    kind = _REQUEST_KINDS.get(name)
    if kind is not None:
        return kind
    meant = name.replace(b"_", b"-")
    is_ours = meant.startswith(_OURS) or (meant != name and meant in _REQUEST_KINDS)
    return DROPPED if is_ours else PLAIN


def _apply_special(head: RequestHead, special: list[Header]) -> Refusal | None:
    """Framing, Host and Expect: anything that two readers could take in two ways is refused."""
    counts = [0] * (DROPPED + 1)
    for header in special:
        value, kind = header.value, header.kind
        counts[kind] += 1
        if kind == HOST:
            head.host = value
        elif kind == CONTENT_LENGTH:
            if LENGTH.fullmatch(value) is None:
                return Refusal(400, "malformed Content-Length")
            head.length = int(value)
        elif kind == TRANSFER_ENCODING:
            if value.lower() != b"chunked":
                return Refusal(400, "Transfer-Encoding must be exactly chunked")
            head.chunked = True
        elif kind == UPGRADE:
            head.upgrade = value.lower() if counts[UPGRADE] == 1 else b""
        elif kind == EXPECT:
            if value.lower() != b"100-continue":
                return Refusal(417, "only Expect: 100-continue is understood")
            head.expects_continue = head.minor == 1
    if counts[HOST] != 1:
        return Refusal(400, "exactly one Host is required")
    if counts[CONTENT_LENGTH] > 1 or counts[TRANSFER_ENCODING] > 1:
        return Refusal(400, "the body's framing is given twice")
    if head.chunked and counts[CONTENT_LENGTH]:
        return Refusal(400, "Content-Length with Transfer-Encoding")
    if head.chunked and head.minor == 0:
        return Refusal(400, "Transfer-Encoding in HTTP/1.0")
    if counts[UPGRADE] and (head.chunked or head.length):
        return Refusal(400, "a body on an Upgrade request")
    return None


def _apply_connection(head: RequestHead, special: list[Header]) -> set[bytes] | None:
    """Keep-alive or close; the headers that Connection names beside these (RFC 9110, 7.6.1), if any."""
    values = [header.value for header in special if header.kind == CONNECTION]
    tokens = {token.strip() for token in b",".join(values).lower().split(b",")}
    if b"upgrade" not in tokens:
        head.upgrade = b""
    if not values:
        return None
    if b"close" in tokens:
        head.keep_alive = False
    elif b"keep-alive" in tokens:
        head.keep_alive = True
    return tokens - {b"close", b"keep-alive", b"upgrade", b"te", b""} or None


def refuse_request_line(data: bytes, max_target_size: int) -> Refusal | None:
    """Why a head that is not complete will be refused for its first line anyway; None while it may be well."""
    line, end, _ = data.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if not end or (match is not None and match[3] == b"1"):
        return None
    return _bad_request_line(line, max_target_size)


def _bad_request_line(line: bytes, max_target_size: int) -> Refusal:
    if len(line) > max_target_size + 64:
        return Refusal(414, f"request target longer than {max_target_size} bytes")
    if _VERSION_LIKE.fullmatch(line) and not line.split(b" ")[2].startswith(b"HTTP/1."):
        return Refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    return Refusal(400, "malformed request line")


def _resolve_target(head: RequestHead) -> Refusal | None:
    """Absolute-form is made origin-form; asterisk-form only for OPTIONS; CONNECT is not served."""
    target = head.target
    if target[0] == 47 and head.method != b"CONNECT":
        return Refusal(400, "a fragment in the request target") if b"#" in target else None
    if head.method == b"CONNECT":
        return Refusal(501, "CONNECT is not served")
    if target == b"*":
        return None if head.method == b"OPTIONS" else Refusal(400, "asterisk-form is for OPTIONS alone")
    if target[:7].lower() != b"http://" or b"#" in target:
        return Refusal(400, "malformed request target")
    authority, slash, rest = target[7:].partition(b"/")
    if b"?" in authority or authority.lower() != head.host.lower():
        return Refusal(400, "the target's authority differs from Host")
    head.target = slash + rest if slash else b"/"
    head.path, _, head.query = head.target.partition(b"?")
    return None
