"""Log lines: one per entry, whatever it holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.log import Log
from proxy.control import logs
from proxy.control.logs import LogLevel, setup_logging
from tests.control.helpers import eventually

log = logging.getLogger("proxy.tests")


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in ("root", *logs._OURS, *logs._NOISY)}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def written(settings: Log, emit: object) -> list[str]:
    stream = io.StringIO()
    setup_logging(settings, "worker 1", stream)
    emit()  # type: ignore[operator]
    return stream.getvalue().splitlines()


def test_json_line_has_role_pid_and_extras() -> None:
    (line,) = written(Log(format="json"), lambda: log.info("applied %s", 7, extra={"route": "events"}))
    entry = json.loads(line)
    assert entry["message"] == "applied 7"
    assert entry["role"] == "worker 1"
    assert entry["level"] == "info"
    assert entry["route"] == "events"
    assert entry["pid"] > 0
    assert entry["at"].endswith("Z")


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_forged_line_break_stays_inside_its_line(format_: str) -> None:
    settings = Log.model_validate({"format": format_})
    lines = written(settings, lambda: log.warning("id %s", "a\nlevel=error\r\x1b[31m", extra={"x": "b\nc"}))
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


def test_no_library_tells_what_it_sends() -> None:
    def emit() -> None:
        for library in ("websockets.client", "urllib3.connectionpool", "asyncpg"):
            logging.getLogger(library).debug("> TEXT %s", "a-token")
        log.debug("this one is ours")

    (line,) = written(Log(format="text", level="debug"), emit)
    assert "ours" in line


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_traceback_stays_inside_its_line(format_: str) -> None:
    def fail() -> None:
        try:
            raise KeyError("gone")
        except KeyError:
            log.exception("it failed")

    lines = written(Log.model_validate({"format": format_}), fail)
    assert len(lines) == 1
    assert "KeyError" in lines[0]


def test_text_line_reads_like_a_line() -> None:
    (line,) = written(Log(format="text"), lambda: log.error("no %s", "port", extra={"address": "[::1]:1"}))
    assert " error " in line
    assert line.endswith("no port address=[::1]:1")


def test_the_level_is_honoured() -> None:
    assert written(Log(level="warning"), lambda: log.info("chatter")) == []


def test_python_warnings_go_to_the_log() -> None:
    import warnings

    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old way", stacklevel=1)

    # pytest replaces showwarning while it records, so ask for what captureWarnings installs.
    setup_logging(Log(), "ledger", io.StringIO())
    assert logging.getLogger("py.warnings").isEnabledFor(logging.WARNING)
    assert warnings.showwarning.__module__ == "logging"


@pytest.mark.asyncio
async def test_another_level_falls_back_by_itself() -> None:
    stream = io.StringIO()
    settings = Log(level="warning", format="text")
    setup_logging(settings, "ledger", stream)
    level = LogLevel(settings)
    level.set("debug", 60.0)
    log.debug("first")
    level.set("debug", 0.01)
    log.debug("second")
    await eventually(lambda: not log.isEnabledFor(logging.INFO), "the end")
    log.info("third")
    level.set("info", 60.0)
    level.set("", 0.0)
    log.info("fourth")
    text = stream.getvalue()
    assert [word in text for word in ("first", "second", "third", "fourth")] == [True, True, False, False]
