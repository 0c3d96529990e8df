"""`python -m proxy.control.doctor FILE`: looks at a configuration and its host, without any running instance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from config.errors import ConfigErrors
from config.loader import load
from proxy.control.doctor.examine import Examination


def main(file: str) -> dict[str, Any]:
    """The findings, or what is wrong with the configuration."""
    try:
        settings = load(file)
    except ConfigErrors as errors:
        return {"error": [str(error) for error in errors]}
    found = uvloop.run(Examination(settings, Path(file).absolute()).run())
    return {"findings": [msgspec.to_builtins(each) for each in found]}


if __name__ == "__main__":
    print(msgspec.json.encode(main(sys.argv[1])).decode(), flush=True)
