"""Structured logs: one entry per line on stderr, JSON or plain text, the same from every process.

An entry never holds a body, a header's value or a token: callers log names, numbers and states. What a
client can choose (an event id, a path) is escaped, so that it cannot forge a line of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from config.log import Log

log = logging.getLogger(__name__)

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOISY: Final = ("aiohttp.access", "asyncio", "websockets")
"""Libraries that tell too much below a warning: the last one headers and messages, hence tokens."""
_OURS: Final = ("proxy", "consistency", "config", "__main__")
"""Who may log at debug: what libraries would tell there, nobody has looked through for secrets."""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """The fields given as `extra=`: everything that logging did not put there itself."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """`{"at": ..., "level": ..., "role": ..., "pid": ..., "message": ..., extras...}` and a newline."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; a traceback is a field of it."""
        entry: dict[str, Any] = {
            "at": _iso(record.created),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": record.process,
            "message": record.getMessage(),
        }
        entry.update(_extras(record))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=True)


class TextLines(logging.Formatter):
    """`time level role[pid] message name=value ...`, control characters escaped."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        head = f"{_iso(record.created)} {record.levelname.lower():7} {self._role}[{record.process}]"
        parts = [record.getMessage(), *(f"{name}={value}" for name, value in _extras(record).items())]
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        return f"{head} {one_line(' '.join(parts))}"


def one_line(text: str) -> str:
    """The text with control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def setup_logging(settings: Log, role: str, stream: TextIO | None = None) -> None:
    """Send every logger's entries to stderr (or `stream`) in the configured format.

    role: launcher, supervisor, ledger, or worker 0, worker 1 and so on.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines(role) if settings.format == "json" else TextLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    _set_level(settings.level)
    logging.captureWarnings(True)


def _set_level(name: str) -> None:
    level = logging.getLevelNamesMapping()[name.upper()]
    root = max(level, logging.INFO)
    logging.getLogger().setLevel(root)
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root))


class LogLevel:
    """The level of one process, which may be another one for a while. Of the access log it says nothing."""

    def __init__(self, settings: Log) -> None:
        self.usual = settings.level
        self._timer: asyncio.TimerHandle | None = None

    def set(self, level: str, seconds: float) -> None:
        """Use this level for so many seconds; an empty one: the configured one from now on. To be called in a loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _set_level(level or self.usual)
        if level:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.set, "", 0.0)
        log.info("log level %s", level or self.usual, extra={"seconds": seconds} if level else None)
