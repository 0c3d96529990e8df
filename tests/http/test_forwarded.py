"""Whose word is taken for where a request came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.forwarded import Origin, Trust
from tests.http.rig import event_bytes, make_route, running

TRUST = Trust(["10.0.0.0/8", "::1", "2001:db8:1::/48"])
HOP = "10.0.0.9"


def origin(hop: str = HOP, **headers: str) -> Origin:
    wanted = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return TRUST.origin(wanted, hop, b"http")


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("::1", True), ("::2", False), ("2001:db8:1::7", True),
     ("::ffff:10.1.2.3", True), ("::ffff:11.1.2.3", False), ("unknown", False), ("", False)],
)  # fmt: skip
def test_networks(address: str, trusted: bool) -> None:
    assert TRUST.is_trusted(address) is trusted


CHAINS = [
    ("203.0.113.5", "203.0.113.5"),
    ("203.0.113.5, 10.0.0.7", "203.0.113.5"),
    ("203.0.113.5,10.0.0.7 ,10.0.0.8", "203.0.113.5"),
    ("1.1.1.1, 203.0.113.5, 10.0.0.7", "203.0.113.5"),
    ("10.0.0.1, 203.0.113.5", "203.0.113.5"),
    ("10.0.0.5, 10.0.0.7", "10.0.0.5"),
    ("203.0.113.5:4711, 10.0.0.7:80", "203.0.113.5"),
    ("2001:db8:2::5, 10.0.0.7", "2001:db8:2::5"),
    ("[2001:db8:2::5]:4711", "2001:db8:2::5"),
    ("unknown, 10.0.0.7", "10.0.0.7"),
    ("203.0.113.5, unknown", HOP),
    ("", HOP),
    (",", HOP),
    ("<script>", HOP),
    ("203.0.113.5, " + "10.0.0.1, " * 200 + "10.0.0.2", "10.0.0.1"),
]


@pytest.mark.parametrize(("chain", "client"), CHAINS)
def test_the_client_is_the_first_from_the_right_that_is_not_ours(chain: str, client: str) -> None:
    found = origin(x_forwarded_for=chain)
    assert found.client == client
    assert found.chain == (f"{chain}, {HOP}".encode() if chain else HOP.encode()), "passed on as it came"


FORWARDED = [
    ("for=203.0.113.5", "203.0.113.5", b"http", b""),
    ("For=203.0.113.5;Proto=HTTPS;Host=shop.example", "203.0.113.5", b"https", b"shop.example"),
    ('for="[2001:db8:2::5]:4711";by=10.0.0.9', "2001:db8:2::5", b"http", b""),
    ("for=1.1.1.1, for=203.0.113.5;proto=https, for=10.0.0.7;proto=http", "203.0.113.5", b"http", b""),
    ("for=203.0.113.5;host=a.example, for=10.0.0.7;host=b.example", "203.0.113.5", b"http", b"a.example"),
    ("for=_hidden, for=10.0.0.7", "10.0.0.7", b"http", b""),
    ('for="203.0.113.5\\"', HOP, b"http", b""),
    ("for=203.0.113.5 for=1.1.1.1", HOP, b"http", b""),
    ("nonsense", HOP, b"http", b""),
    ("proto=ftp", HOP, b"http", b""),
    ("host=a/b", HOP, b"http", b""),
]


@pytest.mark.parametrize(("text", "client", "proto", "host"), FORWARDED)
def test_forwarded(text: str, client: str, proto: bytes, host: bytes) -> None:
    found = origin(forwarded=text)
    assert (found.client, found.proto, found.host) == (client, proto, host)


def test_x_forwarded_for_is_read_before_forwarded() -> None:
    assert origin(x_forwarded_for="203.0.113.5", forwarded="for=203.0.113.6").client == "203.0.113.5"


@pytest.mark.parametrize(
    ("said", "proto"),
    [("https", b"https"), ("HTTP", b"http"), ("https, http", b"http"), ("gopher", b"http"), ("", b"http")],
)
def test_protocol(said: str, proto: bytes) -> None:
    assert origin(x_forwarded_proto=said).proto == proto


@pytest.mark.parametrize(
    ("said", "host"),
    [("shop.example", b"shop.example"), ("a.example:8443, b.example", b"a.example:8443"), ("a b", b""), ("", b"")],
)
def test_host(said: str, host: bytes) -> None:
    assert origin(x_forwarded_host=said).host == host


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_nothing_that_is_said_raises_or_names_what_is_no_address(chain: str, forwarded: str, proto: str) -> None:
    found = TRUST.origin(
        {
            b"x-forwarded-for": chain.encode("latin-1", "replace"),
            b"forwarded": forwarded.encode("latin-1", "replace"),
            b"x-forwarded-proto": proto.encode("latin-1", "replace"),
        },
        HOP,
        b"https",
    )
    assert TRUST.is_trusted(found.client) or found.client[0].isalnum() or ":" in found.client
    assert found.proto in (b"http", b"https")


def said(event_id: str, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return event_bytes(event_id, x="y").replace(b"Host: a\r\n", b"Host: a\r\n" + lines.encode())


@pytest.mark.asyncio
async def test_a_trusted_hop_is_believed_and_named_to_the_backends() -> None:
    async with running(make_route(key="client"), trusted_proxies=["127.0.0.0/8"]) as rig:
        data = said("a", X_Forwarded_For="6.6.6.6", x_forwarded_for="203.0.113.5, 127.0.0.7", X_Forwarded_Proto="https",
                    X_Forwarded_Host="shop.example")  # fmt: skip
        wire = await rig.wire()
        assert (await wire.ask(data)).status == 200
        assert (await wire.ask(said("b", X_Forwarded_For="203.0.113.6"))).status == 200
        assert (await wire.ask(said("c"))).status == 200
        await rig.settled()
        first, second, third = rig.old.seen
        assert first.header("x-forwarded-for") == "6.6.6.6, 203.0.113.5, 127.0.0.7, 127.0.0.1"
        assert (first.header("x-forwarded-proto"), first.header("x-forwarded-host")) == ("https", "shop.example")
        assert first.header("host") == "a"
        assert second.header("x-forwarded-for") == "203.0.113.6, 127.0.0.1"
        assert (second.header("x-forwarded-proto"), second.header("x-forwarded-host")) == ("http", "a")
        assert third.header("x-forwarded-for") == "127.0.0.1"
        assert first.head.lower().count(b"x-forwarded-for") == first.head.count(b"X-Forwarded-Host") == 1
        assert [rig.fake.events[event_id].key for event_id in "abc"] == ["203.0.113.5", "203.0.113.6", "127.0.0.1"]


@pytest.mark.asyncio
@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
async def test_others_are_not(trusted: list[str]) -> None:
    async with running(make_route(key="client"), trusted_proxies=trusted) as rig:
        data = said("e", X_Forwarded_For="203.0.113.5", X_Forwarded_Host="shop.example", Forwarded="for=203.0.113.5")
        assert (await rig.ask(data)).status == 200
        await rig.settled()
        (seen,) = rig.old.seen
        assert (seen.header("x-forwarded-for"), seen.header("x-forwarded-host")) == ("127.0.0.1", "a")
        assert rig.fake.events["e"].key == "127.0.0.1"
