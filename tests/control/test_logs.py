"""Log lines: one per entry, whatever it holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.model import Log
from proxy.control.logs import setup_logging

log = logging.getLogger("tests.control.logs")


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
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
