"""Stores of the consistency checks: asked by a process of the checker, which alone knows how to speak with them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.control.doctor.finding import STORES, Finding, fail, ok, warn

_START: Final = "python -m consistency did not answer: is the whole package installed?"


async def look(config: Path, patience: float) -> list[Finding]:
    """Whether each store lets us in, and how long it keeps what it has. config: the file; patience: seconds for all."""
    request = orjson.dumps({"do": "doctor", "config": str(config)}).decode()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "consistency", request),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(patience):
            said, _ = await process.communicate()
        answer: dict[str, Any] = orjson.loads(said)
    except TimeoutError:
        return [fail(STORES, "stores", f"nothing was said within {patience:g} s", "look whether a store hangs")]
    except ValueError:
        return [fail(STORES, "stores", f"the checker ended with {process.returncode}", _START)]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    error = answer.get("error")
    if isinstance(error, dict):
        return [fail(STORES, "stores", str(error["message"]), str(error["hint"]) or "proxyctl check FILE says where")]
    return [found for each in answer["checks"] for found in _of_check(each)]


def _of_check(check: dict[str, Any]) -> list[Finding]:
    routes = ", ".join(check["routes"])
    found, kept = [], {}
    for side, told in sorted(check["stores"].items()):
        name = f"{side}'s store of {routes}"
        if told["error"]:
            advice = "mend its address or its credential: its windows wait, and a loss is not seen meanwhile"
            found.append(fail(STORES, name, told["error"], advice))
            continue
        keeps = told["keeps_s"]
        kept[side] = keeps
        found.append(ok(STORES, name, f"{told['kind']}, open; {_kept(keeps)}"))
    if len(kept) == 2 and kept["old"] != kept["new"]:
        seen = f"old {_kept(kept['old'])}, new {_kept(kept['new'])}"
        advice = "give both the same: what one has dropped already is a mismatch to verify and backfill"
        found.append(warn(STORES, f"retention of {routes}", seen, advice))
    found += [
        warn(STORES, f"retention of {routes}", f"{side} {_kept(keeps)}", "keep more than a day: checks look back")
        for side, keeps in kept.items()
        if keeps is not None and keeps < 86400
    ]
    return found


def _kept(seconds: float | None) -> str:
    return "keeps everything" if not seconds else f"keeps {seconds / 3600:g} h"
