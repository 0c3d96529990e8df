"""One route's window: its length, its bound, its cost."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.dedupe import fingerprint, id_digest
from proxy.ledger.remembered import Memory, Remembered

SECOND = 10**9
START = 1_700_000_000 * SECOND
PRINT = fingerprint(b"POST / HTTP/1.1", b"d" * 16)


def put(window: Remembered, name: str, status: int = 201, seconds: float = 0.0) -> None:
    window.put(id_digest(name), PRINT, status, START + int(seconds * SECOND))


def get(window: Remembered, name: str, seconds: float = 0.0) -> Memory | None:
    return window.get(id_digest(name), START + int(seconds * SECOND))


def test_an_id_is_remembered_for_the_window_and_no_longer() -> None:
    window = Remembered(5.0, 10)
    assert get(window, "a") is None
    put(window, "a", 204)
    assert get(window, "a") == get(window, "a", 4.999) == Memory(PRINT, 204)
    assert get(window, "a", 5.0) is None
    put(window, "a", 200, seconds=6.0)
    assert get(window, "a", 10.9) == Memory(PRINT, 200)
    assert get(window, "a", 11.0) is None


def test_with_too_many_the_oldest_go_and_that_is_counted() -> None:
    window = Remembered(60.0, 3)
    for n in range(5):
        put(window, f"e{n}", seconds=n)
    assert [get(window, f"e{n}", 5) is not None for n in range(5)] == [False, False, True, True, True]
    assert (len(window), window.dropped, window.is_full) == (3, 2, True)


def test_what_is_over_is_let_go_while_new_ones_come() -> None:
    window = Remembered(5.0, 1000)
    for n in range(100):
        put(window, f"e{n}", seconds=n * 0.01)
    for n in range(25):
        put(window, f"f{n}", seconds=10)
    assert (len(window), window.dropped) == (25, 0)
    window.trim(START + 15 * SECOND, 10)
    assert len(window) == 15
    window.trim(START + 15 * SECOND, 1000)
    assert len(window) == 0


def test_who_comes_again_after_the_window_is_the_newest() -> None:
    window = Remembered(5.0, 3)
    for n in range(3):
        put(window, f"e{n}", seconds=n)
    put(window, "e0", seconds=6)
    window.trim(START + 8 * SECOND, 10)
    assert (len(window), window.dropped) == (1, 0), "it keeps nobody behind it"
    for n in range(3):
        put(window, f"f{n}", seconds=9 + n / 2)
    assert (get(window, "e0", 10.9), window.dropped) == (None, 1), "dropped as the oldest of four"
    put(window, "f0", 200, seconds=20)
    put(window, "f3", seconds=20)
    put(window, "f4", seconds=20)
    assert get(window, "f0", 20) == Memory(PRINT, 200)
    assert window.dropped == 1


def test_older_ones_from_the_record_fill_it_up_and_displace_nothing() -> None:
    window = Remembered(60.0, 3)
    put(window, "new", 201, seconds=10)
    for n, name in enumerate(("new", "old1", "old2", "old3")):
        window.put_older(id_digest(name), PRINT, 200, START + (9 - n) * SECOND)
    assert [get(window, name, 11) for name in ("new", "old1", "old2", "old3")] == [
        Memory(PRINT, 201), Memory(PRINT, 200), Memory(PRINT, 200), None,
    ]  # fmt: skip
    assert window.dropped == 1
    put(window, "newer", seconds=12)
    assert get(window, "old2", 12) is None
    assert get(window, "old1", 12) is not None


def test_an_id_costs_what_the_reference_says() -> None:
    count = 50_000
    ids = (id_digest(str(n)) for n in range(count))
    tracemalloc.start()
    try:
        window = Remembered(60.0, count)
        for n, id in enumerate(ids):
            window.put(id, PRINT, 201, START + n)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(window) == count
    assert size / count < 250


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.booleans()), max_size=60),
    most=st.integers(1, 8),
)
def test_it_is_a_dictionary_with_times(steps: list[tuple[str, int, bool]], most: int) -> None:
    """Against a plain dict: while it is not full both agree; when it is, it knows nothing that the dict does not."""
    window, model, now = Remembered(5.0, most), dict[str, tuple[int, int]](), 0
    for name, wait, is_put in steps:
        now += wait
        at = START + now * SECOND
        alive = {known: status for known, (when, status) in model.items() if now - when < 5}
        found = window.get(id_digest(name), at)
        if found is not None:
            assert alive[name] == found.status
        else:
            assert name not in alive or window.dropped > 0
        if is_put and found is None:
            window.put(id_digest(name), PRINT, 200 + now, at)
            model[name] = (now, 200 + now)
        assert len(window) <= most
