"""Slots are never given twice, and a route that leaves keeps its debts."""

from __future__ import annotations

import pickle

from config.loader import load
from config.model import Settings
from proxy.control.carried import Carried, of_ledger

BASE = """\
version: 1
listen: ["127.0.0.1:8080"]
salt: 0123456789abcdef
backends:
"""


def settings(*names: str, port: int = 9001) -> Settings:
    """With these routes; each has a new backend of its own, old is that of all."""
    backends = [f"  old: {{url: 'http://127.0.0.1:{port}'}}"]
    backends += [f"  new-{name}: {{url: 'http://127.0.0.1:{port + 1}'}}" for name in names]
    routes = [f"  - {{name: {name}, match: {{path: /{name}}}, new: new-{name}}}" for name in names]
    return load("crossfade.yaml", text=BASE + "\n".join([*backends, "routes:", *routes, ""]), environ={})


def test_an_instance_that_starts_has_its_routes_in_their_order() -> None:
    carried = Carried.first(settings("a", "b"))
    assert (carried.slots, carried.retired, carried.size) == ({"a": 0, "b": 1}, {}, 2)


def test_a_route_keeps_its_slot_wherever_it_stands() -> None:
    before, now = settings("a", "b"), settings("c", "b", "a")
    carried = Carried.first(before).after(before, now)
    assert carried.slots == {"a": 0, "b": 1, "c": 2}
    assert carried.size == 3


def test_the_slot_of_a_route_that_left_is_given_to_nobody_else() -> None:
    first, second, third = settings("a", "b"), settings("a"), settings("a", "c", "b")
    carried = Carried.first(first).after(first, second)
    assert carried.slots == {"a": 0, "b": 1}
    assert set(carried.retired) == {"b"}
    again = carried.after(second, third)
    assert again.slots == {"a": 0, "b": 1, "c": 2}
    assert again.retired == {}, "the file has it again"


def test_the_ledger_goes_on_with_routes_that_left() -> None:
    before, now = settings("a", "b"), settings("a", port=9005)
    carried = Carried.first(before).after(before, now)
    seen = of_ledger(now, carried)
    assert [route.name for route in seen.routes] == ["a", "b"]
    assert seen.backends["new-b"].url == ("http://127.0.0.1:9002",), "as it was, for the file has it no more"
    assert seen.backends["old"].url == ("http://127.0.0.1:9005",), "where it is now"
    assert of_ledger(now, Carried.first(now)) is now


def test_it_is_passed_on_from_process_to_process() -> None:
    before, now = settings("a", "b"), settings("a")
    carried = Carried.first(before).after(before, now)
    assert pickle.loads(pickle.dumps(carried)) == carried
