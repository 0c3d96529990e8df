"""proxyctl as a person types it: a process for each command. What is typed and what it answers is told."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import Any, Final

import orjson

from proxy.core.errors import CrossfadeError
from proxy.demo.children import python
from proxy.demo.instance import Instance
from proxy.demo.view import View

_SECONDS: Final = 120.0


class CommandError(CrossfadeError):
    """A command ended with another exit code than it should; the message has what it said."""


class Commands:
    """Commands for one instance, which the environment names, so that they are those of any instance."""

    def __init__(self, instance: Instance, view: View) -> None:
        self._environ = os.environ | {"PROXYCTL_ADMIN": f"unix:{instance.admin.socket}"}
        self._config = str(instance.config_path)
        self._view = view

    async def do(self, *words: str) -> None:
        """One that is to succeed; its answer is told as it is. Raises CommandError."""
        said = await self._run(words, (0,))
        for line in said.splitlines():
            self._view.say(f"    {line}")

    async def verify(self, begun: int, ended: int) -> dict[str, Any]:
        """What `verify` says of a span (microseconds since 1970), also when that is no pass. Raises CommandError."""
        span = ("--from", _seconds(begun), "--to", _seconds(ended))
        answer: dict[str, Any] = orjson.loads(
            await self._run(("verify", "--config", self._config, *span, "-o", "json"), (0, 1))
        )
        if "result" not in answer:
            raise CommandError(f"verify says nothing of the stores: {answer}")
        return answer

    async def _run(self, words: tuple[str, ...], codes: tuple[int, ...]) -> str:
        """What it says. codes: the exit codes that it may have."""
        line = shlex.join(("proxyctl", *words))
        self._view.say(f"$ {line}")
        pipe = asyncio.subprocess.PIPE
        command = python("proxy.cli.main", *words)
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=self._environ)
        try:
            async with asyncio.timeout(_SECONDS):
                said, complaint = await process.communicate()
        except TimeoutError:
            raise CommandError(f"{line} took more than {_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in codes or not said:
            text = (complaint or said).decode(errors="replace").strip()
            raise CommandError(f"{line} ended with {process.returncode}: {text}")
        return said.decode()


def _seconds(at: int) -> str:
    """Microseconds as seconds, exactly."""
    return f"{at // 1_000_000}.{at % 1_000_000:06}"
