"""One comparison in a process of its own, and what it took: the checker as `verify` starts it, or datacompy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from benchmarks.consistency.inputs import BEGIN, STEP, Inputs
from benchmarks.processes import BenchmarkFailed

ROOT: Final = Path(__file__).resolve().parents[2]
DATACOMPY: Final = ROOT / "build" / "datacompy"
"""Where `make bench-consistency` installs it, beside our own packages."""


class Took(NamedTuple):
    """seconds: of the wall clock; processor: seconds of all cores; rss: the most memory, bytes; said: its answer."""

    seconds: float
    processor: float
    rss: int
    said: dict[str, Any]


def checker(inputs: Inputs, *, is_full: bool = False) -> Took:
    """Our own, from the two files to the named rows. is_full: row by row, in one window."""
    path = inputs.folder / "crossfade.yaml"
    stores = {
        side: {
            "files": {
                "files": f"{side}.parquet",
                "identity": ["id"],
                "time": "moment",
                "time_unit": "ns",
                "timeout": "15m",
            }
        }
        for side in ("old", "new")
    }
    document = {
        "version": 1,
        "salt": "a salt for benchmarks",
        "backends": {side: {"url": f"http://127.0.0.1:{port}"} for side, port in (("old", 1), ("new", 2))},
        "routes": [{"name": "events", "match": {"path": "/events"}}],
        "consistency": [{"routes": ["events"], "window": "1d", **stores}],
    }
    path.write_text(yaml.safe_dump(document))
    span = {"from_ns": BEGIN, "to_ns": BEGIN + inputs.rows * STEP}
    request = json.dumps({"do": "verify", "config": str(path), "top": 100, "full": is_full} | span)
    return _run([sys.executable, "-P", "-m", "consistency", request], str(ROOT))


def datacompy(inputs: Inputs) -> Took:
    """The peer, of the same files read into frames of polars. Its answer has `compare_s`, without the reading."""
    return _run([sys.executable, "-P", str(Path(__file__).with_name("peer.py")), str(inputs.folder)], str(DATACOMPY))


def _run(command: list[str], path: str) -> Took:
    begun = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.kill()
        process.wait()
        raise
    seconds = time.monotonic() - begun
    if process.returncode != 0:
        raise BenchmarkFailed(f"{command[2:4]} ended with {process.returncode}")
    answer = json.loads(said)
    if "error" in answer:
        raise BenchmarkFailed(f"the checker says: {answer['error']['message']}")
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, answer)
