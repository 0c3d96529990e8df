"""What a consumer may have died of: which events go alone, and how many of the window go at a time."""

from __future__ import annotations

from proxy.fanout import blame as module
from proxy.fanout.blame import PATIENCE, Blame


def test_what_was_on_its_way_goes_alone_until_it_has_its_pong() -> None:
    blame = Blame()
    blame.suspect(["a", "b"])
    assert [blame.is_suspect(each) for each in "abc"] == [True, True, False]
    blame.clear("a")
    blame.clear("c")
    assert [blame.is_suspect(each) for each in "ab"] == [False, True]


def test_suspects_are_bounded_and_the_oldest_go_first() -> None:
    blame = Blame()
    blame.suspect(map(str, range(module._MOST_SUSPECTS + 2)))
    assert [blame.is_suspect(each) for each in ("0", "1", "2")] == [False, False, True]


def test_after_some_losses_a_half_of_the_window_goes_first_and_then_less_down_to_one() -> None:
    blame = Blame()
    for _ in range(PATIENCE):
        blame.lost(again=True, any_kept=True)
        assert not blame.is_cautious
    sizes = []
    for _ in range(5):
        blame.lost(again=True, any_kept=True)
        assert blame.is_cautious
        sizes.append(blame.size(11))
    assert sizes == [5, 2, 1, 1, 1]
    blame.lived()
    assert not blame.is_cautious


def test_a_consumer_that_lived_through_what_it_was_sent_again_begins_anew() -> None:
    """Whose connection is lost in the middle of fresh events now and then is not one that dies of something."""
    blame = Blame()
    for _ in range(10 * PATIENCE):
        blame.lost(again=False, any_kept=True)
    assert (blame.losses, blame.is_cautious) == (1, False)
    blame.lost(again=False, any_kept=False)
    assert blame.losses == 0
