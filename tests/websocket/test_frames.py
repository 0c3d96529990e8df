"""Every frame rule as a script of bytes and items; any split of the bytes; two other readers as a second opinion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader
from wsproto.frame_protocol import FrameProtocol, ParseFailed

from proxy.websocket.frames import (
    BINARY,
    CLOSE,
    INVALID_DATA,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Broken,
    Closing,
    FrameReader,
    Item,
    Message,
    Ping,
    Pong,
    Run,
    close_frame,
    frame,
)

MANY = settings(max_examples=max(300, settings().max_examples))
MOST, FRAGMENTS = 1000, 8


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A frame as websockets writes it."""
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=masked)


def reader(*, is_client: bool = True, runs: bool = False) -> FrameReader:
    return FrameReader(is_client=is_client, max_message=MOST, max_fragments=FRAGMENTS, runs=runs)


class Ran(NamedTuple):
    """A `Run` that can be compared."""

    raw: bytes
    messages: int


def shown(items: Sequence[Item]) -> list[object]:
    """Items as they can be compared; runs joined, for where one ends is the split's doing."""
    seen: list[object] = []
    run: Ran | None = None
    for item in items:
        if isinstance(item, Run):
            run = Ran(run.raw + item.raw, run.messages + item.messages) if run else Ran(item.raw, item.messages)
            continue
        seen += [run] if run else []
        run = None
        if isinstance(item, Message):
            seen.append((item.kind, item.payload, item.raw))
        elif isinstance(item, Ping | Pong):
            seen.append((type(item).__name__.upper(), item.payload))
        else:
            seen.append(item)
    return seen + ([run] if run else [])


def read(data: bytes, *, is_client: bool = True, runs: bool = False) -> list[object]:
    return shown(reader(is_client=is_client, runs=runs).feed(data))


# one frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, MOST - 1, MOST])
@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("is_client", [True, False])
def test_a_message_comes_with_its_bytes_and_its_payload(kind: int, size: int, is_client: bool) -> None:
    payload = bytes(i % 128 for i in range(size))
    raw = sent(kind, payload, masked=is_client)
    assert read(raw, is_client=is_client) == [(kind, payload, raw)]


def test_a_message_is_taken_up_to_its_limit_and_the_next_byte_is_refused_by_its_head_alone() -> None:
    for size in (65535, 65536, 70_000):
        raw = sent(BINARY, bytes(size))
        big = FrameReader(is_client=True, max_message=70_000, max_fragments=1)
        assert [(item.kind, len(item.payload)) for item in big.feed(raw) if isinstance(item, Message)] == [(2, size)]
    over = reader()
    assert over.feed(sent(BINARY, bytes(MOST + 1))[:4]) == [Broken(TOO_BIG, "a message is longer than 1000 bytes")]
    assert over.held == 0
    assert over.feed(b"more") == []


@pytest.mark.parametrize(
    ("opcode", "name"), [(PING, "PING"), (PONG, "PONG")], ids=["ping", "pong"]
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_control_frames(opcode: int, name: str, size: int) -> None:
    assert read(sent(opcode, bytes(size))) == [(name, bytes(size))]


def test_several_messages_at_once_and_nothing_left() -> None:
    one, two, three = sent(TEXT, b"one"), sent(BINARY, b"\xff\xfe"), sent(TEXT, "drei é".encode())
    frames = reader()
    assert shown(frames.feed(one + two + three)) == [
        (TEXT, b"one", one),
        (BINARY, b"\xff\xfe", two),
        (TEXT, "drei é".encode(), three),
    ]
    assert frames.is_between
    assert frames.held == 0


# fragments


def test_a_fragmented_message_comes_whole_with_the_bytes_of_all_its_frames() -> None:
    parts = [sent(TEXT, b"a", fin=False), sent(0, b"", fin=False), sent(0, b"bc")]
    frames = reader()
    assert frames.feed(parts[0]) == []
    assert not frames.is_between
    assert frames.feed(parts[1]) == []
    assert shown(frames.feed(parts[2])) == [(TEXT, b"abc", b"".join(parts))]
    assert frames.is_between


def test_control_frames_in_between_go_first_and_are_no_part_of_it() -> None:
    start, end = sent(TEXT, b"a", fin=False), sent(0, b"b")
    items = read(start + sent(PING, b"1") + sent(PONG, b"2") + end)
    assert items == [("PING", b"1"), ("PONG", b"2"), (TEXT, b"ab", start + end)]


def test_a_close_frame_in_the_middle_of_a_message_ends_it() -> None:
    assert read(sent(TEXT, b"a", fin=False) + close_frame(1000, is_client=True)) == [Closing(1000, "")]


def test_a_character_may_be_split_over_fragments() -> None:
    text = "€𝄞".encode()
    frames = reader()
    parts = [sent(0 if i else TEXT, bytes([byte]), fin=i == len(text) - 1) for i, byte in enumerate(text)]
    assert [item for part in parts[:-1] for item in frames.feed(part)] == []
    assert shown(frames.feed(parts[-1])) == [(TEXT, text, b"".join(parts))]


def test_fragments_are_limited_in_number_and_together_in_bytes() -> None:
    most = sent(TEXT, b"", fin=False) + sent(0, b"", fin=False) * (FRAGMENTS - 2)
    assert [item.payload for item in reader().feed(most + sent(0, b"x")) if isinstance(item, Message)] == [b"x"]
    over = reader()
    assert over.feed(most + sent(0, b"", fin=False) * 2) == [Broken(TOO_BIG, "a message has more than 8 frames")]
    assert over.held == 0
    half = sent(BINARY, bytes(MOST // 2), fin=False)
    assert len(reader().feed(half + sent(0, bytes(MOST // 2)))) == 1
    assert reader().feed(half + sent(0, bytes(MOST // 2 + 1))) == [
        Broken(TOO_BIG, "a message is longer than 1000 bytes")
    ]


def test_a_million_tiny_fragments_end_it_at_once() -> None:
    frames, tiny = reader(), sent(0, b"", fin=False)
    assert frames.feed(sent(TEXT, b"", fin=False)) == []
    items = frames.feed(tiny * 1_000_000)
    assert [type(item) for item in items] == [Broken]
    assert frames.held == 0


# what is refused


NOT_MASKED, MASKED = "a client's frame is not masked", "a server's frame is masked"
REFUSED = {
    "not masked": (sent(TEXT, b"x", masked=False), PROTOCOL_ERROR, NOT_MASKED),
    "rsv1": (b"\xc1\x80\0\0\0\0", PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on"),
    "rsv2": (b"\xa1\x80\0\0\0\0", PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on"),
    "rsv3": (b"\x91\x80\0\0\0\0", PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on"),
    **{
        f"opcode {opcode}": (bytes([0x80 | opcode, 0x80, 0, 0, 0, 0]), PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "fragmented ping": (b"\x09\x80\0\0\0\0", PROTOCOL_ERROR, "a control frame is fragmented"),
    "ping of 126": (b"\x89\xfe\0\x7e\0\0\0\0", PROTOCOL_ERROR, "a control frame is longer than 125 bytes"),
    "continuation of nothing": (sent(0, b"x"), PROTOCOL_ERROR, "a continuation of no message"),
    "whole message in a message": (
        sent(TEXT, b"x", fin=False) + sent(TEXT, b"y"),
        PROTOCOL_ERROR,
        "a message began before the one before it had ended",
    ),
    "fragmented message in a message": (
        sent(TEXT, b"x", fin=False) + sent(BINARY, b"y", fin=False),
        PROTOCOL_ERROR,
        "a message began before the one before it had ended",
    ),
    "125 in two bytes": (b"\x81\xfe\0\x7d", PROTOCOL_ERROR, "a frame's length is not in its shortest form"),
    "65535 in eight bytes": (
        b"\x81\xff\0\0\0\0\0\0\xff\xff",
        PROTOCOL_ERROR,
        "a frame's length is not in its shortest form",
    ),
    "the length's first bit": (
        b"\x81\xff\x80" + bytes(7),
        PROTOCOL_ERROR,
        "a frame's length is not in its shortest form",
    ),
    "2^62 bytes": (b"\x81\xff\x40" + bytes(7), TOO_BIG, "a message is longer than 1000 bytes"),
    "half a close code": (sent(CLOSE, b"\x03"), PROTOCOL_ERROR, "a close frame with half a code"),
    "a close reason that is not UTF-8": (
        sent(CLOSE, b"\x03\xe8\xff"),
        INVALID_DATA,
        "the reason of a close frame is not UTF-8",
    ),
    "text that is not UTF-8": (sent(TEXT, b"\xc3\x28"), INVALID_DATA, "a text message is not UTF-8"),
    "text with a surrogate": (sent(TEXT, b"\xed\xa0\x80"), INVALID_DATA, "a text message is not UTF-8"),
    "text that ends in a character": (
        sent(TEXT, b"\xe2", fin=False) + sent(0, b"\x82"),
        INVALID_DATA,
        "a text message is not UTF-8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_ends_the_connection_behind_the_messages_before_it(name: str) -> None:
    data, code, reason = REFUSED[name]
    good = sent(TEXT, b"good")
    assert read(data) == [Broken(code, reason)]
    frames = reader()
    assert shown(frames.feed(good + data + good)) == [(TEXT, b"good", good), Broken(code, reason)]
    assert frames.feed(good) == []
    assert len(reason) <= 123


def test_a_masked_frame_of_a_server_is_refused() -> None:
    assert read(sent(TEXT, b"x"), is_client=False) == [Broken(PROTOCOL_ERROR, MASKED)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent(code: int) -> None:
    assert read(close_frame(code, "why €", is_client=True)) == [Closing(code, "why €")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_may_not(code: int) -> None:
    data = frame(CLOSE, code.to_bytes(2, "big"), is_client=True)
    assert read(data) == [Broken(PROTOCOL_ERROR, f"a close frame with the code {code}")]


def test_a_close_frame_without_a_code() -> None:
    assert read(close_frame(NO_CODE, is_client=True)) == [Closing(NO_CODE, "")]


def test_nothing_is_read_after_a_close_frame() -> None:
    frames = reader()
    assert shown(frames.feed(close_frame(1000, is_client=True) + sent(TEXT, b"x"))) == [Closing(1000, "")]
    assert frames.feed(sent(TEXT, b"x")) == []


# runs


def test_whole_messages_side_by_side_are_one_run() -> None:
    data = sent(TEXT, b"a", masked=False) + sent(BINARY, bytes(300), masked=False) + sent(TEXT, b"", masked=False)
    assert read(data, is_client=False, runs=True) == [Ran(data, 3)]


def test_a_run_is_cut_where_something_else_stands() -> None:
    one, ping = sent(TEXT, b"a", masked=False), sent(PING, b"p", masked=False)
    start, end = sent(TEXT, b"b", fin=False, masked=False), sent(0, b"c", masked=False)
    frames = reader(is_client=False, runs=True)
    pinged = ("PING", b"p")
    assert shown(frames.feed(one + one + ping + one + start)) == [Ran(one + one, 2), pinged, Ran(one, 1)]
    assert shown(frames.feed(ping + end + one + one[:1])) == [pinged, Ran(start + end + one, 2)]
    assert not frames.is_between
    assert shown(frames.feed(one[1:])) == [Ran(one, 1)]


def test_text_in_a_run_is_not_judged() -> None:
    data = sent(TEXT, b"\xff", masked=False)
    assert read(data, is_client=False, runs=True) == [Ran(data, 1)]


def test_text_is_not_judged_where_that_is_not_wanted() -> None:
    whole = sent(TEXT, b"\xff", masked=False)
    parts = sent(TEXT, b"\xe2", fin=False, masked=False) + sent(0, b"x", masked=False)
    frames = FrameReader(is_client=False, max_message=MOST, max_fragments=FRAGMENTS, checks_text=False)
    assert shown(frames.feed(whole + parts)) == [(TEXT, b"\xff", whole), (TEXT, b"\xe2x", parts)]


def test_a_run_before_what_is_refused_is_given_out() -> None:
    data = sent(TEXT, b"a", masked=False)
    assert read(data + b"\x83\0", is_client=False, runs=True) == [
        Ran(data, 1),
        Broken(PROTOCOL_ERROR, "opcode 3 is reserved"),
    ]


# any bytes, in any pieces

payloads = st.binary(max_size=300) | st.text(max_size=100).map(str.encode)
frames_sent = st.builds(
    lambda opcode, payload, fin, masked: sent(
        opcode, payload[:125] if opcode >= CLOSE else payload, fin=fin or opcode >= CLOSE, masked=masked > 0
    ),
    st.sampled_from([0, TEXT, TEXT, BINARY, PING, PONG]),
    payloads,
    st.booleans() | st.just(True),
    st.integers(0, 12),
)
streams = st.lists(frames_sent | st.binary(max_size=3), max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 600), max_size=8)


@MANY
@given(streams, cuts, st.booleans(), st.booleans())
def test_any_split_gives_the_same_items(data: bytes, cut: list[int], is_client: bool, runs: bool) -> None:
    frames = reader(is_client=is_client, runs=runs)
    places = sorted({min(place, len(data)) for place in cut} | {0, len(data)})
    items = [item for start, stop in pairwise(places) for item in frames.feed(data[start:stop])]
    assert shown(items) == read(data, is_client=is_client, runs=runs)


@settings(max_examples=50)
@given(streams, st.booleans())
def test_one_byte_at_a_time_too(data: bytes, runs: bool) -> None:
    frames = reader(runs=runs)
    items = [item for byte in data for item in frames.feed(bytes([byte]))]
    assert shown(items) == read(data, runs=runs)
    assert frames.held <= 2 * MOST + 14 * FRAGMENTS + 14


@MANY
@given(streams, cuts, st.booleans(), st.booleans())
def test_another_reader_goes_on_where_one_has_stopped(data: bytes, cut: list[int], is_client: bool, runs: bool) -> None:
    """At every cut; what has ended for one is not gone on with."""
    frames = reader(is_client=is_client, runs=runs)
    places = sorted({min(place, len(data)) for place in cut} | {0, len(data)})
    items: list[Item] = []
    for start, stop in pairwise(places):
        items += frames.feed(data[start:stop])
        if not items or not isinstance(items[-1], Broken | Closing):
            before, frames = frames, reader(is_client=is_client, runs=runs)
            frames.go_on(before.begun())
            assert (frames.held, frames.is_between) == (before.held, before.is_between)
    assert shown(items) == read(data, is_client=is_client, runs=runs)


@MANY
@given(streams, st.booleans())
def test_runs_hold_the_same_messages(data: bytes, is_client: bool) -> None:
    """Put together again, runs are the messages' bytes; only what is wrong with a text is not seen."""
    messages = [item for item in reader(is_client=is_client).feed(data) if isinstance(item, Message)]
    runs = [item for item in reader(is_client=is_client, runs=True).feed(data) if isinstance(item, Run)]
    raw = b"".join(message.raw for message in messages)
    assert b"".join(run.raw for run in runs).startswith(raw)
    assert sum(run.messages for run in runs) >= len(messages)


# a second and a third opinion


def by_websockets(data: bytes, is_client: bool) -> list[tuple[int, bytes, bool]] | None:
    """The frames as `websockets` reads them; None when it refuses one. It does not look at what messages they make."""
    stream = StreamReader()
    stream.feed_data(data)
    frames: list[tuple[int, bytes, bool]] = []
    while True:
        parsing = Frame.parse(stream.read_exact, mask=is_client, max_size=MOST)
        try:
            next(parsing)
        except StopIteration as done:
            found = done.value
            if found.opcode == Opcode.CLOSE:
                return frames
            frames.append((int(found.opcode), bytes(found.data), found.fin))
        except (ProtocolError, PayloadTooBig):
            return None
        else:
            return frames


def by_wsproto(data: bytes, is_client: bool) -> list[tuple[str, bytes]] | None:
    """The messages and control frames as `wsproto` reads them; None when it refuses what came."""
    protocol = FrameProtocol(client=not is_client, extensions=[])
    protocol.receive_bytes(data)
    seen: list[tuple[str, bytes]] = []
    message = b""
    try:
        for part in protocol.received_frames():
            if part.opcode.name == "CLOSE":
                break
            assert isinstance(part.payload, str | bytes | bytearray)
            payload = part.payload.encode() if isinstance(part.payload, str) else bytes(part.payload)
            if part.opcode.name in ("PING", "PONG"):
                seen.append((part.opcode.name, payload))
                continue
            message += payload
            if part.message_finished:
                seen.append((part.opcode.name, message))
                message = b""
    except ParseFailed:
        return None
    return seen


def ours(data: bytes, is_client: bool) -> tuple[list[tuple[str, bytes]], bool, bool]:
    """The same of ours; whether it was refused, and whether a message or frame has only begun."""
    names = {TEXT: "TEXT", BINARY: "BINARY"}
    seen, is_refused = [], False
    big = FrameReader(is_client=is_client, max_message=2**20, max_fragments=1000)
    for item in big.feed(data):
        if isinstance(item, Message):
            seen.append((names[item.kind], item.payload))
        elif isinstance(item, Ping | Pong):
            seen.append((type(item).__name__.upper(), item.payload))
        elif isinstance(item, Broken):
            is_refused = True
    return seen, is_refused, not big.is_between


def mutated(seed: int) -> tuple[bytes, bool]:
    """A stream of frames with a byte or two changed, or none."""
    random = Random(seed)
    is_client = random.random() < 0.5
    data = bytearray()
    inside = False
    for _ in range(random.randrange(1, 6)):
        opcode = random.choice([PING, PONG, 0 if inside else random.choice([TEXT, BINARY])])
        payload = random.randbytes(random.choice([0, 1, 5, 125])) if opcode != TEXT else "é€x".encode() * 3
        fin = opcode >= CLOSE or random.random() < 0.7
        if opcode < CLOSE:
            inside = not fin
        if opcode == 0:
            payload = b"ascii"
        data += sent(opcode, payload, fin=fin, masked=is_client)
    for _ in range(random.choice([0, 1, 1, 2])):
        data[random.randrange(min(len(data), 12))] ^= 1 << random.randrange(8)
    return bytes(data), is_client


def test_two_other_readers_agree(soak: bool) -> None:
    accepted = refused = 0
    for seed in range(60_000 if soak else 3_000):
        data, is_client = mutated(seed)
        seen, is_refused, has_begun = ours(data, is_client)
        theirs = by_wsproto(data, is_client)
        if theirs is not None and not is_refused:
            assert seen == theirs, seed
            accepted += 1
        if is_refused:
            refused += 1
        # Whatever another reader refuses is not passed on; of a text that is not whole they may see it sooner.
        if by_websockets(data, is_client) is None or theirs is None:
            assert is_refused or has_begun, seed
    assert accepted > 500
    assert refused > 500


# frames of our own


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
@pytest.mark.parametrize("is_client", [True, False])
def test_our_frames_are_read_by_others(size: int, is_client: bool) -> None:
    payload = bytes(size)
    stream = StreamReader()
    stream.feed_data(frame(BINARY, payload, is_client=is_client))
    parsing = Frame.parse(stream.read_exact, mask=is_client)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert done.value.value == Frame(Opcode.BINARY, payload)
    assert not stream.buffer


def test_masks_differ() -> None:
    assert len({frame(TEXT, b"x", is_client=True) for _ in range(20)}) > 10


def test_a_long_reason_is_cut_by_whole_characters() -> None:
    assert read(close_frame(1011, "€" * 60, is_client=False), is_client=False) == [Closing(1011, "€" * 41)]
