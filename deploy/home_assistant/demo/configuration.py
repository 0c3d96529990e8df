"""The proxy's configuration: config/examples/home-assistant.yaml with the addresses of what runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

import config
from deploy.home_assistant.services import ENRICHMENT
from proxy.demo.instance import basic_config

EXAMPLE: Final = Path(config.__file__).parent / "examples" / "home-assistant.yaml"
_PATIENT: Final = {
    "response_timeout": "5s",
    "health": {"path": "/health", "interval": "500ms", "timeout": "2s"},
}
"""The new side is three processes and a database, and the machine may be busy."""
_TRIGGER: Final = {"slower_by": "500ms"}
"""Three processes are slower than one."""


def configuration(
    sides: dict[str, str], stores: dict[str, str], database: str, home: tuple[str, Path]
) -> dict[str, Any]:
    """The document. sides, stores: by side, URLs where events go to, and of the InfluxDB that has them then.

    database: its name in both; home: Home Assistant's URL, and the file that has its token.
    """
    example: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    document = basic_config(sides["old"], sides["new"])
    document |= {name: example[name] for name in ("sources", "routes", "default")}
    for name in sides:
        document["backends"][name] |= _PATIENT
    (source,), (route,) = document["sources"], document["routes"]
    url, token_file = home
    source["home_assistant"] |= {"url": f"ws{url.removeprefix('http')}/api/websocket", "token_file": str(token_file)}
    source |= {"retry_initial": "100ms", "retry_max": "1s"}
    route["trigger"] = _TRIGGER
    # Each side gives each point an id of its own, and the new one adds what the old one does not know.
    rules = [{"path": f"/{name}", "compare": "ignore"} for name in ("id", *ENRICHMENT)]
    check: dict[str, Any] = {"routes": [route["name"]], "identity": "none", "rules": rules}
    for side, store in stores.items():
        check[side] = {"influxdb1": {"url": store, "database": database}}
    document["consistency"] = [check]
    return document
