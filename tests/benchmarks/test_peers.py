"""The files that the proxies under test are started from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.peers import FILES, fill, parse_stub_status, tracing_section
from benchmarks.processes import BenchmarkFailed
from config.loader import load
from config.model import WebSocket

VALUES: dict[str, object] = {
    "LISTEN": 1,
    "TLS": "",
    "OLD": 2,
    "NEW": 3,
    "DIR": "/tmp/d",
    "STAGE": "split",
    "WEIGHT": 25,
    "DURABILITY": "off",
    "CARRY_OVER": "false",
    "WORKERS": 1,
    "TRIGGER": "",
    "ADMIN": "off",
    "TRACING": "null",
}


def test_values_are_filled_in_and_variables_of_nginx_left_alone() -> None:
    assert fill("listen @PORT@; set $host @PORT@;", {"PORT": 80}) == "listen 80; set $host 80;"


def test_a_value_that_is_missing_is_a_failure() -> None:
    with pytest.raises(BenchmarkFailed, match="@PORT@"):
        fill("listen @PORT@;", {})


def test_our_own_file_is_what_the_benchmark_says_it_is() -> None:
    config = yaml.safe_load(fill((FILES / "crossfade.yaml").read_text(), VALUES))
    (route,) = config["routes"]
    assert config["workers"] == 1
    assert (route["key"], route["event_id"]) == ("json:/entity_id", ["json:/context/id"])
    assert (route["ordering"], route["ack"]) == ("answered", "authority")
    assert (route["stage"], route["weight"]) == ("split", 25)


def test_our_own_file_traces_and_is_looked_at_where_that_is_asked_for(tmp_path: Path) -> None:
    values = VALUES | {"DIR": tmp_path, "TRACING": tracing_section(4318, "1%"), "ADMIN": "127.0.0.1:6"}
    path = tmp_path / "crossfade.yaml"
    path.write_text(fill((FILES / "crossfade.yaml").read_text(), values))
    settings = load(path)
    assert settings.tracing is not None
    assert (settings.tracing.url, settings.tracing.sample) == ("http://127.0.0.1:4318/v1/traces", 0.01)
    assert settings.admin.tcp is not None


@pytest.mark.parametrize(("name", "routes"), [("sessions.yaml", 1), ("idle.yaml", 2)])
def test_our_sessions_are_dual_written_with_the_defaults(name: str, routes: int, tmp_path: Path) -> None:
    values = VALUES | {"DIR": tmp_path, "HTTP_OLD": 4, "HTTP_NEW": 5}
    path = tmp_path / "crossfade.yaml"
    path.write_text(fill((FILES / name).read_text(), values))
    settings = load(path)
    *_, route = settings.routes
    assert (settings.workers, len(settings.routes)) == (1, routes)
    assert route.websocket == WebSocket()
    assert (route.stage, route.durability, route.ack) == ("dualwrite", "before-ack", "authority")
    assert (route.key, route.event_id) == ("json:/entity_id", ("json:/context/id",))


def test_nginx_tunnels_sessions() -> None:
    text = (FILES / "tunnel.conf").read_text()
    assert re.search(r"^worker_processes 1;", text, re.MULTILINE)
    assert re.search(r"^ +access_log off;", text, re.MULTILINE)
    assert "proxy_set_header Upgrade $http_upgrade;" in text


@pytest.mark.parametrize(("name", "kept"), [("split.conf", "128"), ("mirror.conf", "@KEPT@")])
def test_nginx_keeps_its_connections_and_writes_no_log(name: str, kept: str) -> None:
    text = (FILES / name).read_text()
    assert re.search(r"^worker_processes 1;", text, re.MULTILINE)
    assert len(re.findall(rf"^ +keepalive {kept};", text, re.MULTILINE)) == 2
    assert re.search(r"^ +access_log off;", text, re.MULTILINE)
    assert 'proxy_set_header Connection "";' in text


def test_stub_status() -> None:
    text = "Active connections: 2 \nserver accepts handled requests\n 10 10 4711 \nReading: 0 Writing: 1 Waiting: 1 \n"
    assert parse_stub_status(text) == 4711
    with pytest.raises(BenchmarkFailed, match="not what stub_status answers"):
        parse_stub_status("<html>404</html>")
