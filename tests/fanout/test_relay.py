"""What a worker has of consumers' connections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_worker_loads_nothing_of_who_speaks_with_consumers() -> None:
    """3 MB in each of them."""
    others = "proxy.fanout.server proxy.fanout.feed proxy.fanout.told websockets.asyncio.server"
    code = f"import sys, proxy.worker.worker; print([name for name in {others.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
