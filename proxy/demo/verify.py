"""The consistency checker over the demo's stores and ledger: a process of its own, as `proxyctl verify` starts it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.core.checked import MISMATCHES
from proxy.core.errors import CrossfadeError
from proxy.demo.backends import EVENTS_PATH
from proxy.demo.children import python

_SECONDS: Final = 60.0


def consistency_of(directory: Path) -> dict[str, Any]:
    """What the demo's configuration says of its toy backends' files, in which both routes' events stand together."""
    stores = {
        name: {
            "sqlite": {
                "file": str(directory / f"{name}.db"),
                "table": "event",
                "identity": ["id"],
                "time": "stored_ns",
                "time_unit": "ns",
                "columns": ["body"],
            }
        }
        for name in ("old", "new")
    }
    probe = {
        "path": EVENTS_PATH,
        "headers": {"Content-Type": "application/json"},
        "body": '{"entity_id": "sensor.probe", "state": "{{id}}"}',
        "expect": {"/body/entity_id": "sensor.probe"},
    }
    # Each toy notes when it stored an event, which differs by nature.
    return {
        "routes": ["events", "stream"],
        **stores,
        "json_fields": ["body"],
        "time": "ignore",
        "window": "2s",
        "probe": probe,
    }


async def verify(config: Path, begun_ns: int, ended_ns: int, top: int) -> dict[str, Any]:
    """What the checker says of the span; top: findings that it names. Raises CrossfadeError when it says nothing."""
    return await ask(
        config,
        {
            "do": "verify",
            "from_ns": begun_ns,
            "to_ns": ended_ns,
            "settle_ns": 0,  # everything has stopped
            "top": top,
        },
    )


async def ask(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The checker's answer to a request, see `consistency.__main__`. Raises CrossfadeError when it gives none."""
    command = python("consistency", orjson.dumps(request | {"config": str(config)}).decode())
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise CrossfadeError(f"the consistency checker took more than {_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CrossfadeError(f"the consistency checker ended with {process.returncode}")
    answer: dict[str, Any] = orjson.loads(said)
    error = answer.get("error")
    if isinstance(error, dict):  # what is wrong with a probe is text
        raise CrossfadeError(f"the consistency checker says: {error['message']}")
    return answer


def lines(answer: dict[str, Any]) -> list[str]:
    """The verdict and its classes, and each mismatch by name."""
    found = [f"verify {answer['result']} ({answer['record']}): {classes(answer)}"]
    for each in answer["findings"]:
        if each["class"] in MISMATCHES:
            by = f" by {' and '.join(each['by'])}" if each["by"] else ""
            what = "; ".join(f"{one['path']} {one['reason']}" for one in each["differences"])
            found.append(f"  {each['class']}{by}: {each['identity']}{f' ({what})' if what else ''}")
    return found + [f"  inconclusive: {each['reason']}" for each in answer["inconclusive"]]


def classes(answer: dict[str, Any]) -> str:
    """What the events are, in words."""
    return ", ".join(f"{count:,} {name}" for name, count in answer["classes"].items() if count) or "no events"
