"""Parts of Home Assistant's configuration, by integration: what every one has here, and more to choose from."""

from __future__ import annotations

from typing import Any

BURST = "input_number.burst"
"""Whoever sets it to another value makes all `followers` change at once."""


def of_all(port: int) -> dict[str, Any]:
    """What every one has: a place, a port of the loopback, a recorder that commits every second."""
    place = {"latitude": 52.37, "longitude": 4.89, "elevation": 2, "country": "NL", "currency": "EUR"}
    return {
        "homeassistant": {"name": "Home", "unit_system": "metric", "time_zone": "UTC"} | place,
        "http": {"server_host": "127.0.0.1", "server_port": port},
        "recorder": {"commit_interval": 1},
    }


def writes_to(port: int, database: str) -> dict[str, Any]:
    """It writes every state to an InfluxDB 1.x at a port of the loopback.

    What it could not write within four tries it drops, and says so in its log alone.
    """
    address = {"host": "127.0.0.1", "port": port, "ssl": False, "verify_ssl": False}
    return {"influxdb": address | {"database": database, "max_retries": 3, "default_measurement": "state"}}


def followers(count: int) -> dict[str, Any]:
    """So many sensors, sensor.follower_0 and on, that have the value of `BURST`: state changes that come at once."""
    follower = f"{{{{ states('{BURST}') }}}}"
    sensors = [{"name": f"Follower {number}", "state": follower} for number in range(count)]
    name = BURST.partition(".")[2]
    return {
        "input_number": {name: {"min": 0, "max": 1e9, "mode": "box", "initial": 0}},
        "template": [{"sensor": sensors}],
    }
