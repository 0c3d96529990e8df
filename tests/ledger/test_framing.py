"""Messages come out of a byte stream as they went in, however that is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.framing import LENGTH_BYTES, MAX_MESSAGE, Unpacker

PAYLOADS = st.lists(st.binary(max_size=300), max_size=8)
CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=60)


@given(payloads=PAYLOADS, cuts=CUTS)
def test_any_pieces_make_the_same_messages(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(each).to_bytes(LENGTH_BYTES, "big") + each for each in payloads)
    unpacker, found = Unpacker(), []
    for cut in cuts:
        found += unpacker.feed(stream[:cut])
        stream = stream[cut:]
    assert found + unpacker.feed(stream) == payloads


def test_a_message_is_out_with_its_last_byte() -> None:
    unpacker, stream = Unpacker(), (3).to_bytes(LENGTH_BYTES, "big") + b"abc"
    assert [unpacker.feed(stream[index : index + 1]) for index in range(len(stream))] == [[]] * 6 + [[b"abc"]]


@pytest.mark.parametrize("first", [0, 2])
def test_an_impossible_length_is_refused(first: int) -> None:
    length = (MAX_MESSAGE + 1).to_bytes(LENGTH_BYTES, "big")
    unpacker = Unpacker()
    assert unpacker.feed(length[:first]) == []
    with pytest.raises(ValueError, match="announced message of"):
        unpacker.feed(length[first:])
