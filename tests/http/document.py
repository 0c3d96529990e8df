"""The page of what is accepted, refused and rewritten, made from the table of cases: python -m tests.http.document"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

from tests.http.cases import CASES, EVENT_SIZE, HEAD_SIZE, HEADERS, TARGET_SIZE, Case

PAGE: Final = Path(__file__).parents[2] / "proxy" / "http" / "README.md"
_SHOWN: Final = 66
"""Characters of a request or of what became of it."""
_HEAD: Final = f"""# HTTP: what is accepted, refused and rewritten

Made from `tests/http/cases.py` by `python -m tests.http.document`; a test fails while it is stale. Every line here is
a test case three times over: the parser alone, the bytes at once over a socket, and byte by byte.

A request is refused when two readers could take it in two ways (RFC 9112 and RFC 9110 without their leniencies).
After a refusal nothing of the connection is served: the answer is `application/problem+json` with
`Connection: close`. The one exception are event ids, where the request is sound and the event is not: that connection
goes on. What is accepted is written anew, never forwarded as it came: `Host` first and `X-Forwarded-Host` directly
after it, then the end-to-end headers in their order, then `X-Forwarded-For`, `X-Forwarded-Proto`, `Via`, with an event
its `X-Event-Id`, `X-Crossfade-Role` and `X-Crossfade-Attempt`, and a `Content-Length` of our own.

The cases run with small limits: a body of {EVENT_SIZE:,} bytes, a head of {HEAD_SIZE:,} bytes, {HEADERS} header lines,
a target of {TARGET_SIZE} bytes. `POST /events` is a route; everything else is passed through.

`⏎` stands for CR LF, `␍` and `␊` for either alone, `␀` for NUL, `⇥` for a tab, `…` for what is left out.
"""
_ABOUT: Final = {
    "request line": "One method, one target, one version, with one space between (RFC 9112, 3).",
    "host": "Exactly one valid Host, in HTTP/1.0 too (RFC 9112, 3.2).",
    "headers": "A token, a colon, a value without control bytes; no folding (RFC 9112, 5).",
    "length": "Digits, once (RFC 9112, 6.3).",
    "encoding": "Exactly `chunked`, alone, in HTTP/1.1 (RFC 9112, 6.1).",
    "chunks": "CR LF alone; extensions and trailers are read and dropped (RFC 9112, 7.1).",
    "hop-by-hop": "Headers of this hop end here (RFC 9110, 7.6.1).",
    "ours": "Who the client is and what Crossfade says is ours to set.",
    "ids": "An event's id is 1-512 visible ASCII characters, given once.",
    "expect": "Only `100-continue` (RFC 9110, 10.1.1).",
    "limits": "One below, at, and one above each size.",
    "around": "What stands before and after a request.",
}


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group, cases in groupby(CASES, key=lambda case: case.group):
        rows = [f"| {_escaped(case.name)} | {_code(_sent(case))} | {_outcome(case)} |" for case in cases]
        table = ["| case | sent | what becomes of it |", "|---|---|---|", *rows]
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n{_ABOUT[group]}\n\n" + "\n".join(table) + "\n")
    served = sum(1 for case in CASES if case.upstream)
    parts.append(f"{len(CASES)} cases: {served} served, {len(CASES) - served} refused.\n")
    return "\n".join(parts)


def _sent(case: Case) -> bytes:
    """The request, without the lines that say nothing about the case."""
    lines = case.request.split(b"\r\n")
    if case.group in ("request line", "around"):
        return case.request if case.group == "around" else lines[0]
    usual = {b"Host: a", b"X-Event-Id: e1"}
    if case.group == "chunks":
        return case.request.partition(b"\r\n\r\n")[2]
    kept = [line for line in lines[1:] if line not in usual] if case.group != "host" else lines[1:]
    return b"\r\n".join(kept).strip(b"\r\n") or case.request


def _outcome(case: Case) -> str:
    """Refused with a status, or the lines of the request upstream that the client did not send."""
    if not case.upstream:
        return f"**{case.status}**"
    sent = set(case.request.split(b"\r\n"))
    ours = (b"X-Forwarded-", b"Via: 1.1 crossfade", b"X-Event-Id", b"X-Crossfade-", b"Content-Length")
    head = case.upstream.partition(b"\r\n\r\n")[0].split(b"\r\n")
    rewritten = [line for line in head if line not in sent and not line.startswith(ours)]
    dropped = [
        line
        for line in case.request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        if line and line not in head and line.partition(b":")[0].lower() != b"content-length"
    ]
    said = ["served"]
    if rewritten:
        said.append("as " + _code(b"\r\n".join(rewritten)))
    if dropped and not rewritten:
        said.append("without " + _code(b"\r\n".join(dropped)))
    return " ".join(said)


def _code(data: bytes) -> str:
    text = data.decode("latin-1").replace("\r\n", "⏎")
    for byte, shown in (("\r", "␍"), ("\n", "␊"), ("\0", "␀"), ("\t", "⇥"), ("`", "'"), ("|", "\\|")):
        text = text.replace(byte, shown)
    text = "".join(char if 32 <= ord(char) < 127 or ord(char) > 255 else f"\\x{ord(char):02x}" for char in text)
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 20] + "…" + text[-19:]
    return f"`` {text} ``"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
