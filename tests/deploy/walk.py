"""Walks the lists of MIGRATION.md (`deploy.lists`): each command in its order, with the exit code it is to have."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.lists import Step

_PATIENCE: Final = 60.0
"""Seconds."""


class Walker:
    """Runs commands in a directory. changes: what is written otherwise here, such as ports and times."""

    def __init__(self, directory: Path, admin: str, changes: Mapping[str, str]) -> None:
        self._directory = directory
        self._changes = changes
        self._environ = os.environ | {"PROXYCTL_ADMIN": admin}
        self._background: list[asyncio.subprocess.Process] = []

    def here(self, command: str) -> str:
        """The command as it is run."""
        for before, after in self._changes.items():
            command = command.replace(before, after)
        return re.sub(r"\bproxyctl ", f"{shlex.quote(sys.executable)} -P -m proxy.cli.main ", command)

    async def walk(self, steps: list[Step]) -> None:
        """All of them; the first that ends otherwise than it should fails the test."""
        for step in steps:
            print(f"{time.monotonic():.1f} {step.command}")  # pytest shows it with a failure
            if step.command.endswith("&"):
                await self._begin(step.command.removesuffix("&"))
                continue
            deadline = time.monotonic() + _PATIENCE
            while True:
                code, said = await self._run(step.command)
                if code == step.wanted or step.kind != "until" or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.2)
            assert code == step.wanted, f"{step.command}\nended with {code}, not {step.wanted}:\n{said}"

    async def _run(self, command: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_shell(
            self.here(command),
            cwd=self._directory,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_PATIENCE):
            said, _ = await process.communicate()
        return process.returncode or 0, said.decode(errors="replace")

    async def _begin(self, command: str) -> None:
        """In the background, until it is ready."""
        with (self._directory / "background.log").open("ab") as log:
            process = await asyncio.create_subprocess_shell(
                f"exec {self.here(command)}", cwd=self._directory, env=self._environ, stdout=log, stderr=log
            )
        self._background.append(process)
        deadline = time.monotonic() + _PATIENCE
        while (await self._run("proxyctl status --ready"))[0] != 0:
            assert process.returncode is None, (self._directory / "background.log").read_text()
            assert time.monotonic() < deadline, "it is not ready"

    async def close(self) -> None:
        """End what is still in the background."""
        for process in self._background:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
