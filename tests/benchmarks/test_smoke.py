"""Whether everybody works who takes part: the peers with a few events, the whole with as little as possible."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks import limit
from benchmarks.compiled import ROOT
from benchmarks.peers import Backend, Certificate, Peers, Proxy
from benchmarks.processes import wait_until
from deploy.packages import program

EVENTS: Final = 200
CORE: Final = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """What they need, as `make bench` installs it."""
    for name, package in (("nginx", "nginx-light"), ("haproxy", "haproxy"), ("wrk", "wrk"), ("strace", "strace")):
        program(name, package)
    subprocess.run(("make", "build/benchmarks/.ready"), cwd=ROOT, check=True)


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[tuple[Backend, Backend]]:
    old = Backend("old", CORE, tmp_path / "old")
    new = Backend("new", CORE, tmp_path / "new")
    yield old, new
    for one in (old, new):
        one.stop()


@pytest.fixture
def peers(backends: tuple[Backend, Backend], tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path, *backends, CORE)
    yield made
    made.stop()


def connect(proxy: Proxy) -> http.client.HTTPConnection:
    if not proxy.tls:
        return http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=30, context=anyone)


def send(proxy: Proxy) -> set[int]:
    """Events of as many keys; the statuses of their answers."""
    connection = connect(proxy)
    statuses = set()
    for number in range(EVENTS):
        key = f"sensor.meter_{number:05}"
        body = json.dumps({"entity_id": key, "context": {"id": f"id-{number}"}})
        connection.request("POST", "/api/v1/events", body, {"X-Bench-Key": key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        statuses.add(answer.status)
    connection.close()
    return statuses


@pytest.mark.parametrize("start", [Peers.nginx_split, Peers.haproxy_split, Peers.envoy_split, Peers.aiohttp_split])
def test_a_peer_splits(start: Callable[[Peers], Proxy], peers: Peers, backends: tuple[Backend, Backend]) -> None:
    assert send(start(peers)) == {200}
    old, new = (one.requests() for one in backends)
    assert old + new == EVENTS
    assert 0.10 < new / EVENTS < 0.40


def test_over_tls_as_well(peers: Peers, backends: tuple[Backend, Backend], tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path)
    ours = peers.crossfade("crossfade", stage="split", weight=25, certificate=certificate)
    assert send(peers.nginx_split(certificate)) == send(ours) == {200}
    assert sum(one.requests() for one in backends) == 2 * EVENTS


@pytest.mark.parametrize("start", [Peers.nginx_mirror, Peers.envoy_mirror, Peers.aiohttp_dual])
def test_a_peer_copies(start: Callable[[Peers], Proxy], peers: Peers, backends: tuple[Backend, Backend]) -> None:
    assert send(start(peers)) == {200}
    wait_until(lambda: [one.requests() for one in backends] == [EVENTS, EVENTS], "every copy")


@pytest.mark.parametrize("start", [Peers.haproxy_tcp, Peers.relay])
def test_a_relay_passes_everything_to_old(
    start: Callable[[Peers], Proxy], peers: Peers, backends: tuple[Backend, Backend]
) -> None:
    assert send(start(peers)) == {200}
    assert [one.requests() for one in backends] == [EVENTS, 0]


def test_a_backend_that_was_away_is_there_again(backends: tuple[Backend, Backend], peers: Peers) -> None:
    old, new = backends
    proxy = peers.nginx_split()
    new.stop()
    assert send(proxy) == {200, 502}
    new.start()
    before = old.requests()
    assert send(proxy) == {200}
    assert (old.requests() - before) + new.requests() == EVENTS


def test_calls_are_counted_and_a_worker_is_sampled(peers: Peers, tmp_path: Path) -> None:
    nginx, ours = peers.nginx_split(), peers.split()
    assert limit.calls(nginx, tmp_path, limit.events(nginx, 1, core=CORE)).total > 1
    assert b"data_received" in limit.flame(ours, tmp_path, limit.events(ours, 4, core=CORE), seconds=2)


@pytest.mark.timeout(1800)
def test_the_benchmark_works(soak: bool, tmp_path: Path) -> None:
    """How fast anybody is is no matter here: the machine may be busy with other tests."""
    cases = [] if soak else ["--only", "tls"]
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--plain", "--results", str(tmp_path), *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (kept,) = tmp_path.glob("*.json")
    found = json.loads(kept.read_text())
    assert found["failed"] == {}
    assert all(one["rate"] for one in found["tls"]["tls"])
    assert len(list(tmp_path.glob("*-flame-*.svg"))) == (5 if soak else 0)
