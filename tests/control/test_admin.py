"""The admin API over TCP and Unix socket: what is refused before a handler sees it."""

from __future__ import annotations

import asyncio
import io
import ssl
import subprocess
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from proxy.control.admin import nanoseconds
from proxy.control.operations import OPERATIONS
from proxy.control.problems import Problem
from proxy.control.sockets import address_text, listen_tcp
from proxy.core.errors import RefuseToStart
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane

WEIGHT = "/api/v1/routes/events/weight"


class Tcp:
    """A client of the TCP listener; its answers are (status, body)."""

    def __init__(self, plane: Plane, session: aiohttp.ClientSession) -> None:
        self.plane = plane
        self.url = plane.supervisor.admin.tcp
        self.session = session
        self.tokens: dict[str, str] = {}

    async def make_tokens(self) -> None:
        for role in ("viewer", "operator"):
            status, made = await self.plane.ask("POST", "/api/v1/tokens", {"name": role, "role": role})
            assert status == 201
            self.tokens[role] = made["token"]

    async def ask(self, method: str, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
        headers = dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {self.tokens.get(token, token)}"
        async with self.session.request(method, self.url + path, headers=headers, **more) as answer:
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json" or path == "/readyz"
            return answer.status, await answer.json(content_type=None) if "json" in answer.content_type else None


@pytest_asyncio.fixture
async def tcp(make_plane: MakePlane) -> AsyncIterator[Tcp]:
    plane = make_plane(admin={"tcp": "127.0.0.1:0", "hosts": ["admin.example.com"]})
    await plane.start()
    async with aiohttp.ClientSession() as session:
        yield Tcp(plane, session)


def filled(path: str) -> str:
    return path.replace("{route}", "events").replace("{id}", "x").replace("{name}", "x")


@pytest.mark.asyncio
async def test_access_of_every_operation(tcp: Tcp) -> None:
    """Without tokens reads are open; with one everybody needs one; a viewer never changes anything."""
    wanted = {
        # access: nobody while there is no token, then nobody, wrong, viewer
        "open": (None, None, None, None),
        "viewer": (None, 401, 401, None),
        "operator": (401, 401, 401, 403),
        "hook": (401, 401, 401, 403),
    }
    assert tcp.plane.ledger is not None
    tcp.plane.ledger.answers = {
        "summary": {"balanced": True, "sides": [], "segments": 1, "gaps": []},
        "events": {"events": [], "next_after_seq": None},
    }
    found: dict[str, list[int]] = {each.name: [] for each in OPERATIONS}
    for token in ("before", "", "cf_wrong", "viewer"):
        for each in OPERATIONS:
            status, _ = await tcp.ask(each.method, filled(each.path), "" if token == "before" else token)
            found[each.name].append(status)
        if token == "before":
            await tcp.make_tokens()
    for each in OPERATIONS:
        for status, expected in zip(found[each.name], wanted[each.access], strict=True):
            assert status == expected if expected else status not in (401, 403), each.name
    assert (await tcp.plane.get("/api/v1/status"))["epoch"] == 1


@pytest.mark.asyncio
async def test_an_operator_changes_over_tcp_and_is_named(tcp: Tcp) -> None:
    await tcp.make_tokens()
    body = {"stage": "live", "weight": 5}
    status, _ = await tcp.ask(
        "PUT", "/api/v1/routes/events/stage", "operator", json=body, headers={"X-Actor": "ann@desk"}
    )
    assert status == 200
    history = await tcp.plane.get("/api/v1/history?limit=1")
    assert history["entries"][0]["actor"] == "token operator (ann@desk)"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:9900"}, 200),
        ({"Host": "admin.example.com"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "10.0.0.1:9900"}, 403),
        ({"Host": "localhost:9900", "Origin": "http://localhost:9900"}, 200),
        ({"Host": "localhost:9900", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:9900", "Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/status", "/metrics", "/healthz"])
async def test_host_and_origin(tcp: Tcp, headers: dict[str, str], status: int, path: str) -> None:
    assert (await tcp.ask("GET", path, headers=headers))[0] == status


@pytest.mark.asyncio
async def test_the_unix_socket_checks_host_and_origin_too(plane: Plane) -> None:
    assert (await plane.ask("GET", "/api/v1/status", Host="evil.example"))[0] == 403
    assert (await plane.ask("GET", "/api/v1/status", Origin="http://evil.example"))[0] == 403


@pytest.mark.asyncio
async def test_bodies(tcp: Tcp) -> None:
    await tcp.make_tokens()
    json_type = {"Content-Type": "application/json"}
    cases: list[tuple[bytes | None, dict[str, str], int]] = [
        (b'{"weight": 0}', {"Content-Type": "text/plain"}, 415),
        (b'{"weight": 0}', {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"weight": 0', json_type, 400),
        (b"\xff", json_type, 400),
        (b"[" * 100_000, json_type, 400),
        (b"[]", json_type, 422),
        (b"{}", json_type, 422),
        (None, {}, 422),
        (b'{"weight": 0, "dryrun": true}', json_type, 422),
        (b'{"weight": 0, "reason": 5}', json_type, 422),
        (b'{"weight": 0, "reason": "' + b"x" * 2**20 + b'"}', json_type, 413),
        (b'{"weight": 0}', json_type, 200),
        (b'{"weight": 0}', {"Content-Type": "application/json; charset=utf-8"}, 200),
    ]
    for body, headers, expected in cases:
        status, answer = await tcp.ask(
            "PUT", WEIGHT, "operator", data=io.BytesIO(body) if body else None, headers=headers
        )
        assert status == expected, (body or b"")[:40]
        if expected != 200:
            assert answer["status"] == expected
            assert answer["title"]
            assert answer["detail"]
    status, _ = await tcp.ask("POST", "/api/v1/routes/events/rollback", "operator")
    assert status == 200  # a change that needs nothing needs no body


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "weight",
    ["-1", "101", "100.01", '"abc"', '"25"', "NaN", "Infinity", "-Infinity", "null", "true", "[]", "{}", "1" * 400],
)
async def test_bad_weights(plane: Plane, weight: str) -> None:
    session, headers = plane.session(), {"Content-Type": "application/json"}
    await plane.change("stage", stage="dualwrite")
    for what, body in (("weight", f'{{"weight": {weight}}}'), ("stage", f'{{"stage": "live", "weight": {weight}}}')):
        url = f"http://localhost/api/v1/routes/events/{what}"
        async with session.put(url, data=body.encode(), headers=headers) as answer:
            problem = await answer.json(content_type=None)
        assert answer.status == 422
        if what == "weight" or weight != "null":
            assert problem["detail"].startswith("weight must be between 0 and 100 percent, not ")
    assert (await plane.get("/api/v1/status"))["epoch"] == 2


@pytest.mark.asyncio
async def test_unknown_paths_methods_and_parameters_are_problems(plane: Plane) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/status", 405),
        ("GET", "/api/v1/history?limt=5", 422),
        ("GET", "/api/v1/history?limit=0", 422),
        ("GET", "/api/v1/history?limit=x", 422),
        ("GET", "/api/v1/history?limit=1001", 422),
        ("GET", "/api/v1/history?offset=-1", 422),
        ("GET", "/api/v1/history?since=never", 422),
        ("GET", "/api/v1/history?until=1e300", 422),
    ):
        found, problem = await plane.ask(method, path)
        assert found == status, path
        assert problem["status"] == status


@pytest.mark.asyncio
async def test_a_taken_admin_port_is_refused_by_name(make_plane: MakePlane) -> None:
    with listen_tcp("127.0.0.1:0") as taken:
        plane = make_plane(admin={"tcp": address_text(taken)})
        with pytest.raises(RefuseToStart, match=f"cannot listen on {address_text(taken)}"):
            await plane.start()
    assert not plane.places.routing.exists()


@pytest.mark.asyncio
async def test_an_open_address_needs_tls_and_a_token(make_plane: MakePlane, state_dir: Path) -> None:
    bare = make_plane(admin={"tcp": "0.0.0.0:0"})
    with pytest.raises(RefuseToStart, match="not loopback, without TLS"):
        await bare.start()
    cert, key = make_certificate(state_dir)
    admin = {"tcp": "0.0.0.0:0", "tls_cert": str(cert), "tls_key": str(key)}
    tokenless = make_plane(admin=admin)
    with pytest.raises(RefuseToStart, match="without a token"):
        await tokenless.start()
    complete = make_plane(admin=admin)
    secret = complete.supervisor.instance.tokens.create("ci", "viewer", "")
    await complete.start()
    port = complete.supervisor.admin.tcp.rsplit(":", 1)[1]
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{port}/api/v1/status"
        async with session.get(url, ssl=context, headers={"Authorization": f"Bearer {secret}"}) as answer:
            assert answer.status == 200
        async with session.get(url, ssl=context) as answer:
            assert answer.status == 401


@pytest.mark.asyncio
async def test_a_certificate_that_cannot_be_used_is_refused(make_plane: MakePlane, state_dir: Path) -> None:
    (state_dir / "cert").write_text("nothing")
    admin = {"tcp": "127.0.0.1:0", "tls_cert": str(state_dir / "cert"), "tls_key": str(state_dir / "none")}
    with pytest.raises(RefuseToStart, match="cannot be used"):
        await make_plane(admin=admin).start()


def make_certificate(directory: Path) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.mark.asyncio
async def test_a_stale_epoch_conflicts_everywhere(plane: Plane) -> None:
    assert (await plane.change("stage", stage="dualwrite"))["epoch"] == 2
    for method, path, body in (
        ("PUT", WEIGHT, {"weight": 5}),
        ("PUT", WEIGHT, {"weight": 0}),
        ("POST", "/api/v1/routes/events/rollback", {}),
        ("POST", "/api/v1/drain", {}),
        ("POST", "/api/v1/tokens", {"name": "a", "role": "viewer"}),
        ("POST", "/api/v1/dead/requeue", {"all": True}),
    ):
        status, problem = await plane.ask(method, path, body, if_match="1")
        assert (status, problem["epoch"]) == (409, 2), path
    assert (await plane.ask("PUT", WEIGHT, {"weight": 5}, if_match="abc"))[0] == 422
    assert (await plane.ask("PUT", WEIGHT, {"weight": 5}, if_match='"2"'))[0] == 200
    assert (await plane.get("/api/v1/tokens"))["tokens"] == []


@pytest.mark.asyncio
async def test_of_two_racing_changes_with_the_same_epoch_one_wins(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    answers = await asyncio.gather(
        *(plane.ask("PUT", WEIGHT, {"weight": weight}, if_match="2") for weight in range(1, 9))
    )
    assert sorted(status for status, _ in answers) == [200] + [409] * 7
    won = next(answer for status, answer in answers if status == 200)
    assert won["epoch"] == 3
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["weight_target"] == won["after"]["weight"]


@pytest.mark.asyncio
async def test_racing_changes_without_an_epoch_all_count(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    answers = await asyncio.gather(*(plane.ask("PUT", WEIGHT, {"weight": weight}) for weight in range(1, 9)))
    assert sorted(answer["epoch"] for _, answer in answers) == list(range(3, 11))
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [each["epoch"] for each in entries] == list(range(10, 0, -1))
    for later, earlier in pairwise(entries):
        assert later["previous_epoch"] == earlier["epoch"]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (1.5, 1_500_000_000),
        ("1.5", 1_500_000_000),
        ("1970-01-01T00:00:02Z", 2_000_000_000),
        ("1970-01-01T00:00:02", 2_000_000_000),
        ("1970-01-01T01:00:02+01:00", 2_000_000_000),
    ],
)
def test_moments(moment: float | str, expected: int) -> None:
    assert nanoseconds(moment) == expected


@pytest.mark.parametrize("moment", ["yesterday", "", "nan", "inf", float("nan"), "2026-13-01"])
def test_bad_moments(moment: float | str) -> None:
    with pytest.raises(Problem) as caught:
        nanoseconds(moment)
    assert caught.value.status == 422
