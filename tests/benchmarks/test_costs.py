"""Proxies beside each other, and the ratios that are promised of them."""

from __future__ import annotations

import pytest

from benchmarks.costs import RATIOS, TRACED, Group, part
from benchmarks.peers import DUAL, DUAL_204, NGINX_MIRROR, NGINX_MIRROR_204, NGINX_SPLIT, SPLIT
from benchmarks.report import MIB
from benchmarks.rounds import Round, Summary, summarise
from benchmarks.websocket.stand import TUNNEL, WEBSOCKETS


def summary(proxy: str, cpu_us: float, *, errors: int = 0) -> Summary:
    one = Round(proxy, 1000, cpu_us, 20_000.0, 0.001, 0.002, errors, 0.25, 0.0, {"worker": cpu_us}, rss=40 * MIB)
    return summarise([one])


def met(group: Group, *, is_plain: bool = False) -> list[bool]:
    return [target.met for target in group.targets(is_plain=is_plain)]


@pytest.mark.parametrize(
    ("cpu_us", "errors", "is_plain", "is_met"),
    [
        (11.0, 0, False, True),
        (11.1, 0, False, False),
        (11.1, 0, True, True),
        (12.6, 0, True, False),
        (1, 1, False, False),
    ],
)
def test_the_split_ratio(cpu_us: float, errors: int, is_plain: bool, is_met: bool) -> None:
    group = Group("Split", [summary(NGINX_SPLIT, 10), summary(SPLIT, cpu_us, errors=errors)], "split")
    assert met(group, is_plain=is_plain) == [is_met]


def test_answers_without_a_body_are_held_against_the_peer_that_has_the_same() -> None:
    peers = [summary(NGINX_MIRROR, 50), summary(NGINX_MIRROR_204, 10)]
    assert met(Group("Dual", [*peers, summary(DUAL, 30), summary(DUAL_204, 14)], "dual")) == [True, True]
    assert met(Group("Dual", [*peers, summary(DUAL, 30.1), summary(DUAL_204, 14.1)], "dual")) == [False, False]


@pytest.mark.parametrize(("cpu_us", "errors", "is_met"), [(10.4, 0, True), (10.5, 0, False), (10.0, 1, False)])
def test_the_cost_of_some_traces(cpu_us: float, errors: int, is_met: bool) -> None:
    shares = {"0%": summary(TRACED["0%"], 10), "100%": summary(TRACED["100%"], 20)}
    shares["1%"] = summary(TRACED["1%"], cpu_us, errors=errors)
    group = Group("Traced", [summary(DUAL, 10), *shares.values()])
    assert [target.met for target in group.traces()] == [is_met]


@pytest.mark.parametrize(("window", "cpu_us"), [("window 32", 20.0), ("window 1", 25.0)])
def test_the_cost_of_a_message(window: str, cpu_us: float) -> None:
    def group(ours: float) -> Group:
        return Group("WebSocket", [summary(TUNNEL, 10), summary(DUAL, ours)], window, "message")

    assert (met(group(cpu_us)), met(group(cpu_us + 0.1))) == ([True], [False])


def test_peers_alone_are_not_judged() -> None:
    for name in RATIOS:
        assert met(Group("Alone", [summary(NGINX_SPLIT, 10), summary(TUNNEL, 3)], name)) == []


def test_what_nothing_is_promised_of_is_not_judged() -> None:
    assert met(Group("Bodies", [summary(NGINX_MIRROR, 10), summary(DUAL, 90)])) == []


@pytest.mark.parametrize(("rate", "is_met"), [(30_000.0, True), (29_900.0, False)])
def test_throughput_beside_the_websockets_library(rate: float, is_met: bool) -> None:
    peer = summary(WEBSOCKETS, 80)._replace(rate=10_000.0)
    group = Group("WebSocket", [summary(TUNNEL, 10), summary(DUAL, 20)._replace(rate=rate), peer], "", "message")
    assert [target.met for target in group.throughput()] == [is_met]


def test_a_group_as_a_table() -> None:
    ours = summary(DUAL, 20)._replace(copied=1.0, handed=0.25)
    (table,) = part({"dual": Group("Dual write", [summary(NGINX_MIRROR, 10), ours], "dual")}).tables
    first, second = table.rows
    assert first[:4] == [NGINX_MIRROR, "10.0 (10.0-10.0)", "1.00", "20000"]
    assert second[2] == "2.00"
    assert "40 MiB" in second
    assert "100.0% copied, 25.0% by the ledger" in second


def test_figures_and_plots_go_by_the_group() -> None:
    found = part({"split": Group("Split", [summary(NGINX_SPLIT, 10), summary(SPLIT, 20)], "split")}, plots=["split"])
    assert [one["cpu_us"] for one in found.figures["split"]] == [10, 20]
    (plot,) = found.plots
    assert [(bar.name, bar.value) for bar in plot.bars] == [(NGINX_SPLIT, 10), (SPLIT, 20)]
