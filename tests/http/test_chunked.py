"""Chunked bodies under any split, against a reader that has the whole text."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http.chunked import BadChunk, ChunkedBody

MANY = settings(max_examples=max(500, settings().max_examples))
pieces = st.sampled_from([b"0", b"1", b"2", b"a", b";x", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"X: y", b"{}", b" "])


def whole(text: bytes) -> tuple[bytes, bytes] | None:
    """The body and what follows it; None when it is malformed or incomplete. Naive and slow."""
    body, rest = b"", text
    while True:
        match = re.match(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n", rest)
        if match is None:
            return None
        size, rest = int(match[1], 16), rest[match.end() :]
        if size == 0:
            break
        if len(rest) < size + 2 or rest[size : size + 2] != b"\r\n":
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
    while not rest.startswith(b"\r\n"):
        match = re.match(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n", rest)
        if match is None:
            return None
        rest = rest[match.end() :]
    return body, rest[2:]


def in_parts(text: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    """The same, by what is tested, fed in parts."""
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    chunks, body = ChunkedBody(), b""
    for start, stop in pairwise(places):
        if chunks.done:
            return body, chunks.rest + text[start:]
        try:
            body += chunks.feed(text[start:stop])
        except BadChunk:
            return None
    return (body, chunks.rest) if chunks.done else None


@MANY
@given(st.lists(pieces, max_size=14).map(b"".join), st.lists(st.integers(0, 40), max_size=6))
def test_any_text_in_any_parts_is_read_as_a_whole(text: bytes, cuts: list[int]) -> None:
    assert in_parts(text, cuts) == whole(text)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=8), st.lists(st.integers(0, 200)))
def test_chunks_in_any_parts_give_their_data(data: list[bytes], after: bytes, cuts: list[int]) -> None:
    text = b"".join(b"%x;e=%d\r\n%b\r\n" % (len(piece), i, piece) for i, piece in enumerate(data))
    text += b"0\r\nTrailer: x\r\n\r\n" + after
    assert in_parts(text, cuts) == (b"".join(data), after)


def test_byte_by_byte() -> None:
    text = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: u\r\n\r\n"
    chunks = ChunkedBody()
    body = b"".join(chunks.feed(text[i : i + 1]) for i in range(len(text)))
    assert (body, chunks.done, chunks.rest) == (b"abcde", True, b"")


@pytest.mark.parametrize("text", [b"1" * 5000, b"1;" + b"x" * 5000, b"0\r\nX: " + b"y" * 5000, b"1\rx", b"1;a\nb"])
def test_a_line_that_can_only_be_malformed_is_not_waited_for(text: bytes) -> None:
    with pytest.raises(BadChunk):
        ChunkedBody().feed(text)


def test_trailers_are_bounded_together() -> None:
    chunks = ChunkedBody()
    chunks.feed(b"0\r\n")
    with pytest.raises(BadChunk):
        chunks.feed((b"X: " + b"y" * 100 + b"\r\n") * 1000)
