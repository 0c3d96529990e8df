"""RFC 6455, section 5 and 8, through a whole session, frame by frame; the sections stand in the tests' names.

What a client may send reaches both backends byte for byte, what it may not ends its session with the code that the RFC
names. What a backend must not send costs it its connection, and its client sees nothing of it.

By hand at both ends where it is about bytes: no library sends fragments of which it knows no character.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.http.wire import until
from tests.websocket.backends import HandBackend
from tests.websocket.byhand import BINARY, CONTINUATION, PING, PONG, TEXT, Got, closing, drip, sent
from tests.websocket.rig import HandRig, Opens, by_hand, make_route, text

pytestmark = pytest.mark.asyncio

MOST, FRAGMENTS = 4096, 8
LIMITS = {"max_event_size": "4KiB"}


def bytes_of(frames: list[Got]) -> bytes:
    return b"".join(frame.raw for frame in frames)


def has_bytes(backend: HandBackend, number: int) -> bool:
    return len(bytes_of(backend.data_frames)) >= number


async def both_have(stand: HandRig, data: bytes) -> None:
    """Wait until each backend has these frames, and no other ones."""
    for backend in (stand.old, stand.new):
        await until(partial(has_bytes, backend, len(data)), f"{backend.name} has it")
        is_same = bytes_of(backend.data_frames) == data
        assert is_same, f"{backend.name} has other bytes"


def in_fragments(kind: int, *parts: bytes, masked: bool = True) -> list[bytes]:
    """The frames of a message."""
    last = len(parts) - 1
    return [sent(CONTINUATION if i else kind, part, fin=i == last, masked=masked) for i, part in enumerate(parts)]


# what may be sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("kind", [TEXT, BINARY], ids=["text", "binary"])
async def test_5_2_each_form_of_a_length_passes_both_ways(kind: int, size: int) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(sent(kind, b"x" * size))
        await until(lambda: len(stand.old.got) == len(stand.new.got) == 1, "both have it")
        assert stand.old.data_frames == stand.new.data_frames
        assert (stand.old.data_frames[0].opcode, stand.old.got) == (kind, [b"x" * size])
        answer = sent(kind, b"y" * size, masked=False)
        stand.old.connection.write(answer)
        assert (await client.frame()).raw == answer


async def test_5_4_a_fragmented_message_with_control_frames_in_between_reaches_both_backends_whole() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        first, second, third = in_fragments(TEXT, b'{"id":"m1",', b"", b'"key":"a"}')
        client.send(first)
        await client.ping(b"in the middle")
        client.send(sent(PONG, b"nobody asked"), second, sent(PING, b"again"), third)
        await both_have(stand, first + second + third)
        assert (await client.frame()).payload == b"again"
        for backend in (stand.old, stand.new):
            controls = [frame for frame in backend.talks[0].frames if frame.opcode >= PING]
            assert [frame.opcode for frame in controls] == [PING], "the client's are not its"
        await until(lambda: stand.rig.is_received("m1"), "receipts")


async def test_5_4_a_fragmented_message_of_a_backend_with_control_frames_in_between_reaches_the_client_whole() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        frames = in_fragments(TEXT, b"a", b"", b"b", masked=False)
        old = stand.old.talks[0]
        old.write(frames[0] + sent(PING, b"p", masked=False))
        await until(lambda: [(each.opcode, each.payload) for each in old.frames] == [(PONG, b"p")], "it is answered")
        await client.ping()
        old.write(frames[1] + sent(PONG, b"nobody asked", masked=False) + frames[2])
        assert [(await client.frame()).raw for _ in frames] == frames


async def test_5_4_libraries_take_a_message_in_fragments_with_control_frames_in_between(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.by_hand()
        for frame in in_fragments(TEXT, b'{"id":"m1",', b"", '"key":"é"}'.encode()):
            client.send(frame)
            await client.ping()
        client.send(*in_fragments(BINARY, b"\x00", b"\xff"))
        await until(lambda: rig.old.got == rig.new.got == ['{"id":"m1","key":"é"}', b"\x00\xff"], "whole")


async def test_5_4_libraries_hear_a_message_in_fragments_with_control_frames_in_between(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        for frame in in_fragments(TEXT, b"\xe2", b"\x82", b"\xac", masked=False):
            rig.old.connection.write(frame)
            await client.ping()
        assert await client.recv() == "€"


async def test_5_5_a_control_frame_of_125_bytes_is_taken() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        await client.ping(b"p" * 125)
        client.send(sent(PONG, b"p" * 125), closing(1000, b"r" * 123))
        assert (await client.closed())[0] == 1000


async def test_5_5_3_pongs_that_nobody_asked_for_are_not_answered(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.by_hand()
        client.send(sent(PONG, b"x"), sent(PING, b"1"), sent(PONG), sent(PING, b"2"))
        assert [(await client.frame())[:3] for _ in "12"] == [(PONG, True, b"1"), (PONG, True, b"2")]
        rig.old.connection.write(sent(PONG, b"x", masked=False) + sent(TEXT, b"here", masked=False))
        assert (await client.frame()).payload == b"here"


async def test_5_6_characters_split_over_fragments_pass_byte_for_byte() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        split = [bytes([byte]) for byte in "€𝄞é".encode()]
        data = b"".join(in_fragments(TEXT, *split))
        client.send(data)
        await both_have(stand, data)
        answer = in_fragments(TEXT, *split, masked=False)
        stand.old.connection.write(b"".join(answer))
        assert [(await client.frame()).raw for _ in answer] == answer


# segments of one byte


async def test_segments_of_one_byte_from_the_handshake_on_in_both_directions() -> None:
    async with by_hand() as stand:
        stand.old.drips = stand.new.drips = True
        client = await stand.rig.by_hand(drips=True)
        data = b"".join([*in_fragments(TEXT, b'{"id":"m1",', b'"key":"a"}'), sent(TEXT, text(2).encode())])
        await drip(client.wire.writer, data)
        await both_have(stand, data)
        old = stand.old.talks[0]
        answer = in_fragments(TEXT, b"a" * 126, b"b", masked=False)
        await drip(old.writer, b"".join([answer[0], sent(PING, b"p", masked=False), answer[1]]))
        assert [(await client.frame()).raw for _ in answer] == answer
        await drip(client.wire.writer, closing(4000, b"bye"))
        assert await client.closed() == (4000, "")


async def test_segments_of_one_byte_of_a_client_with_libraries_behind(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.by_hand(drips=True)
        for n in range(3):
            await drip(client.wire.writer, sent(TEXT, text(n).encode()))
        await client.ping()
        await until(lambda: rig.old.got == rig.new.got == [text(n) for n in range(3)], "both have them")


async def test_what_stands_behind_a_101_in_the_same_segment_is_heard() -> None:
    async with by_hand() as stand:
        stand.old.behind = sent(TEXT, b"hello", masked=False)
        client = await stand.rig.by_hand()
        assert (await client.frame()).raw == stand.old.behind


# limits, to the byte


@pytest.mark.parametrize("parts", [1, 2, FRAGMENTS])
async def test_a_message_of_the_most_bytes_passes_and_one_more_is_1009(parts: int) -> None:
    async with by_hand(make_route({"max_fragments": FRAGMENTS}), limits=LIMITS) as stand:
        client = await stand.rig.by_hand()
        pieces = [b"x" * (MOST // parts)] * parts
        most = b"".join(in_fragments(BINARY, *pieces))
        client.send(most)
        await both_have(stand, most)
        client.send(*in_fragments(BINARY, *pieces[:-1], pieces[-1] + b"x"))
        assert await client.closed() == (1009, f"a message is longer than {MOST} bytes")
        await both_have(stand, most)


@pytest.mark.parametrize("parts", [1, 2, FRAGMENTS])
async def test_a_message_of_a_backend_of_the_most_bytes_passes_and_one_more_costs_its_connection(parts: int) -> None:
    async with by_hand(make_route({"max_fragments": FRAGMENTS}), limits=LIMITS) as stand:
        client = await stand.rig.by_hand()
        pieces = [b"x" * (MOST // parts)] * parts
        most = in_fragments(BINARY, *pieces, masked=False)
        stand.old.connection.write(b"".join(most))
        assert [(await client.frame()).raw for _ in most] == most
        over = in_fragments(BINARY, *pieces[:-1], pieces[-1] + b"x", masked=False)
        stand.old.connection.write(b"".join(over))
        await until(lambda: stand.old.closed == [1009], "it is told why")
        await until(lambda: len(stand.old.connections) == 1, "there is a new connection")
        stand.old.connection.write(sent(TEXT, b"again", masked=False))
        assert (await client.frame()).payload == b"again"


@pytest.mark.parametrize("size", [2**20 + 1, 2**31, 2**40, 2**62])
async def test_a_frame_that_announces_too_much_is_1009_before_any_of_it_is_kept(size: int) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        announced = bytes([0x82, 127]) + size.to_bytes(8, "big")
        stand.old.connection.write(announced)
        await until(lambda: stand.old.closed == [1009], "it is told why")
        await client.ping()
        client.send(sent(BINARY, b"x", fin=False), bytes([0x80, 0xFF]) + size.to_bytes(8, "big"))
        assert await client.closed() == (1009, f"a message is longer than {2**20} bytes")
        await until(lambda: stand.rig.rig.plane.budget.held == 0, "nothing is held")


async def test_a_message_of_the_most_fragments_passes_and_one_more_is_1009() -> None:
    async with by_hand(make_route({"max_fragments": FRAGMENTS})) as stand:
        client = await stand.rig.by_hand()
        most = b"".join(in_fragments(BINARY, *[b"x"] * FRAGMENTS))
        client.send(most)
        await both_have(stand, most)
        client.send(*in_fragments(BINARY, *[b"x"] * (FRAGMENTS + 1)))
        assert await client.closed() == (1009, f"a message has more than {FRAGMENTS} frames")
        await both_have(stand, most)


async def test_a_message_of_a_backend_of_the_most_fragments_passes_and_one_more_costs_its_connection() -> None:
    async with by_hand(make_route({"max_fragments": FRAGMENTS})) as stand:
        client = await stand.rig.by_hand()
        most = in_fragments(BINARY, *[b"x"] * FRAGMENTS, masked=False)
        stand.old.connection.write(b"".join(most))
        assert [(await client.frame()).raw for _ in most] == most
        stand.old.connection.write(b"".join(in_fragments(BINARY, *[b"x"] * (FRAGMENTS + 1), masked=False)))
        await until(lambda: stand.old.closed == [1009], "it is told why")
        await client.ping()


# what must not be sent


def head(first: int, second: int, extended: bytes = b"", *, masked: bool = True) -> bytes:
    """A frame's head as no library writes it, with an empty mask."""
    return bytes([first, second | (128 if masked else 0)]) + extended + (bytes(4) if masked else b"")


def malformed(masked: bool) -> dict[str, bytes]:
    """What a client (masked) or a backend must not send, each behind a whole message."""
    reserved = {f"5.2 bit RSV{n}": head(0x81 | bit, 0, masked=masked) for n, bit in ((1, 64), (2, 32), (3, 16))}
    of_pings = {
        f"5.2 bit RSV{n} of a Ping": head(0x89 | bit, 0, masked=masked) for n, bit in ((1, 64), (2, 32), (3, 16))
    }
    opcodes = {
        f"5.2 opcode {code}": head(0x80 | code, 0, masked=masked) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    }
    begun, ping = sent(TEXT, b"x", fin=False, masked=masked), (126).to_bytes(2, "big")
    return reserved | of_pings | opcodes | {
        "5.1 masked by the wrong end": sent(TEXT, b"x", masked=not masked),
        "5.2 125 in two bytes": head(0x82, 126, b"\x00\x7d", masked=masked),
        "5.2 65535 in eight bytes": head(0x82, 127, (65535).to_bytes(8, "big"), masked=masked),
        "5.2 the first bit of eight bytes": head(0x82, 127, b"\x80" + bytes(7), masked=masked),
        "5.4 a continuation of what has ended": sent(CONTINUATION, b"x", masked=masked),
        "5.4 the beginning of such a one": sent(CONTINUATION, b"x", fin=False, masked=masked),
        "5.4 a message in a message": begun + sent(BINARY, b"y", masked=masked),
        "5.4 the beginning of a message in a message": begun + begun,
        "5.5 a fragmented Ping": head(0x09, 0, masked=masked),
        "5.5 a fragmented Pong": head(0x0A, 0, masked=masked),
        "5.5 a fragmented Close": head(0x08, 0, masked=masked),
        "5.5 a Ping of 126 bytes": head(0x89, 126, ping, masked=masked) + bytes(126),
        "5.5 a Pong of 126 bytes": head(0x8A, 126, ping, masked=masked) + bytes(126),
        "5.5 a Close of 126 bytes": head(0x88, 126, ping, masked=masked) + bytes(126),
    }  # fmt: skip


@pytest.mark.parametrize("name", malformed(True))
async def test_what_a_client_must_not_send_is_1002_behind_what_it_sent_before(name: str) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        good = sent(TEXT, text(1).encode())
        client.send(good, malformed(True)[name])
        code, reason = await client.closed()
        assert code == 1002
        assert reason
        assert stand.rig.counted("websocket_closed_1002") == 1
        await both_have(stand, good)
        assert list(stand.rig.rig.fake.events) == ["m1"]


@pytest.mark.parametrize("name", malformed(False))
async def test_what_a_backend_must_not_send_costs_it_its_connection_and_the_client_nothing(name: str) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        good = sent(TEXT, b"good", masked=False)
        stand.old.connection.write(good + malformed(False)[name])
        assert (await client.frame()).raw == good
        await until(lambda: stand.old.closed == [1002], "it is told why")
        assert stand.rig.counted("websocket_backend_broken") == 1
        await until(lambda: len(stand.old.connections) == 1, "there is a new connection")
        client.send(sent(TEXT, text(1).encode()))
        await client.ping()
        assert stand.new.got == [text(1).encode()]


@pytest.mark.parametrize(
    "split",
    [
        [b"\xc3("],
        [b"\xed\xa0\x80"],
        [b"\xc0\xaf"],
        [b"\xf4\x90\x80\x80"],
        [b"ok\xe2", b"\x82", b"x"],
        [b"\xe2", b"\x82"],
    ],
    ids=["half a character", "surrogate", "too long", "behind the last one", "in fragments", "unfinished"],
)
async def test_8_1_text_of_a_client_that_is_not_utf_8_is_1007_and_goes_nowhere(split: list[bytes]) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(*in_fragments(TEXT, *split))
        assert await client.closed() == (1007, "a text message is not UTF-8")
        await until(lambda: stand.old.closed == stand.new.closed == [1001], "backends hear that it has gone")
        assert stand.old.got == stand.new.got == []


async def test_8_1_the_same_bytes_in_a_binary_message_pass() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        data = b"".join(in_fragments(BINARY, b"ok\xe2", b"\x82", b"x"))
        client.send(data)
        await both_have(stand, data)


async def test_8_1_text_of_a_backend_that_is_not_utf_8_is_for_the_client_to_judge() -> None:
    """Frames pass byte for byte: what a backend alone would have sent is what its client gets."""
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        answer = in_fragments(TEXT, b"\xe2", b"x", masked=False)
        stand.old.connection.write(b"".join(answer))
        assert [(await client.frame()).raw for _ in answer] == answer
        client.send(closing(1007))
        assert await client.closed() == (1007, "")
        await until(lambda: stand.old.closed == stand.new.closed == [1007], "backends hear it")
