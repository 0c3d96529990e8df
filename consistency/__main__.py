"""The checker as a process of its own: `python -m consistency REQUEST`, started by `proxyctl`.

REQUEST is a JSON object. One JSON object is the answer, on stdout; progress goes to stderr when that is a terminal.

    {"do": "verify" | "diff" | "suggest", "config": FILE, "route": NAME | null, "from_ns": N | null, "to_ns": N | null,
     "full": false, "repair": false, "dry_run": false, "two_way": false, "live": false, "settle_ns": N, "top": 20,
     "class": NAMES | null, "by": "old" | "new" | null, "field": POINTER | null}

What ended less than `settle_ns` ago is not looked at: it may not be visible everywhere. `two_way` lets a repair go
ahead without a ledger that says what each side is owed. `live` reads no store: it tells what the live checker found.

    {"do": "backfill", "config": FILE, "route": NAME | null, "from_ns": N, "to_ns": N | null, "source": "old",
     "target": "new", "rate": ROWS_PER_SECOND, "restart": false, "dry_run": false}

    {"do": "probe", "config": FILE, "route": NAME | null}

    {"do": "doctor", "config": FILE}

`diff` tells findings of a class (or several: `lost,unrecorded`), against a side or at a field alone; `suggest` adds
`suggestions`, see `consistency.suggest`; `probe` sends one, see `consistency.probe`; `doctor` looks at all stores, see
`consistency.doctor`.

An answer {"error": {"message", "hint", "lines"}} says what is wrong with the request or the configuration.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import uvloop

from config.consistency import Check
from config.errors import ConfigErrors
from config.loader import load
from config.model import Settings
from consistency.admin import Admin, socket_of
from consistency.assembly import both_stores
from consistency.backfill import LEAST_WINDOW, Backfill, Done, Order, SideName
from consistency.classes import Class
from consistency.compare import general
from consistency.doctor import examined
from consistency.judge import BACK_OFF
from consistency.live.journal import journal_of
from consistency.live.recorded import NothingRecorded, recorded
from consistency.probe import Prober, url_of
from consistency.report import Report, iso
from consistency.rows import Span
from consistency.stores.errors import StoreError
from consistency.suggest import suggestions
from consistency.verify import NotWithoutLedger, WhatToVerify, records_of, verify
from consistency.windows import LEAST_SETTLE

DO: Final = ("verify", "diff", "suggest", "backfill", "probe", "doctor")
HOUR: Final = 3600 * 1_000_000_000
DAY: Final = 24 * HOUR
BAR: Final = 24
"""Characters of a progress bar."""
MOST_WINDOWS: Final = 500_000
"""Nearly a year of minutes: 1 KiB each in the report."""


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """See the module."""

    do: str
    config: str
    route: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    full: bool = False
    repair: bool = False
    dry_run: bool = False
    two_way: bool = False
    live: bool = False
    settle_ns: int = LEAST_SETTLE
    top: int = 20
    kind: str | None = msgspec.field(default=None, name="class")
    by: SideName | None = None
    field: str | None = None
    source: SideName | None = None
    target: SideName | None = None
    rate: float = 0.0
    restart: bool = False


class BadRequest(Exception):
    """What was asked for cannot be done. hint: what to do instead; lines: for tools that read `file:line:column:`."""

    def __init__(self, message: str, hint: str = "", lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.lines = lines

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"message": str(self), "hint": self.hint, "lines": list(self.lines)}


def main(text: str) -> dict[str, Any]:
    """The answer to one request."""
    try:
        request = msgspec.json.decode(text, type=Request)
        if request.do not in DO:
            raise BadRequest(f"there is nothing called {request.do!r} to do")
        for name in _classes(request):
            if name not in set(Class):
                raise BadRequest(f"there is no class {name!r}; there is {', '.join(sorted(Class))}")
        settings = _settings(request.config)
        if request.do == "doctor":
            return {"checks": uvloop.run(examined(settings))}
        check = _check(settings, request.route)
        if check.identity == "content" and (request.repair or request.do == "backfill"):
            raise BadRequest("nothing names these rows (identity: content): which of them are there cannot be told")
        if request.live:
            return _live(request, settings, check)
        do = {"backfill": _backfill, "probe": _probe}.get(request.do, _verify)
        return uvloop.run(do(request, settings, check))
    except msgspec.DecodeError as error:
        return {"error": BadRequest(f"not a request: {error}").as_dict()}
    except BadRequest as problem:
        return {"error": problem.as_dict()}


def _settings(file: str) -> Settings:
    try:
        return load(file)
    except ConfigErrors as errors:
        number = f"{len(errors)} error{'' if len(errors) == 1 else 's'}"
        raise BadRequest(f"{file} has {number}", lines=tuple(str(error) for error in errors)) from None


def _check(settings: Settings, route: str | None) -> Check:
    checks = settings.consistency
    if not checks:
        raise BadRequest(
            "the configuration has no `consistency`: it does not say where the backends keep their events",
            hint="see config/REFERENCE.md, consistency",
        )
    known = [name for check in checks for name in check.routes]
    if route is None and len(checks) > 1:
        raise BadRequest(f"several routes can be checked: {', '.join(known)}", hint="name one with --route")
    for check in checks:
        if route is None or route in check.routes:
            return check
    raise BadRequest(f"there is no `consistency` for route {route!r}; there is {', '.join(known)}")


def _live(request: Request, settings: Settings, check: Check) -> dict[str, Any]:
    """What the live checker found, from its journal."""
    if request.do not in ("verify", "diff") or request.full or request.repair:
        raise BadRequest("`live` tells what was found already: there is nothing to read or to write")
    begun = time.monotonic()
    wanted = _wanted(request)
    report = Report(check.routes, _span(request, check.window), "as the live checker found it")
    try:
        found = recorded(
            journal_of(Path(settings.state_dir) / "checker", check),
            report,
            lambda told: wanted(told["class"], told["by"], (each["path"] for each in told["differences"])),
            limit=request.top,
        )
    except NothingRecorded as error:
        raise BadRequest(str(error), hint="without --live both stores are read") from None
    return report.as_dict((), request.top) | {
        "findings": found.findings,
        "findings_untold": found.untold,
        "judged_until": iso(found.judged_until),
        "duration_s": round(time.monotonic() - begun, 3),
    }


async def _verify(request: Request, settings: Settings, check: Check) -> dict[str, Any]:
    begun = time.monotonic()
    wanted = _wanted(request)
    what = WhatToVerify(
        _span(request, check.window),
        is_full=request.full,
        is_repairing=request.repair,
        is_dry=request.dry_run,
        is_two_way=request.two_way,
        wanted=lambda finding: wanted(finding.kind, finding.by, (each.path for each in finding.differences)),
    )
    try:
        done = await verify(settings, check, what, progress=_progress(), back_off=BACK_OFF)
    except NotWithoutLedger as said:
        raise BadRequest(
            f"a repair needs the ledger, which knows what each side is owed; {said}",
            hint="--without-ledger writes whatever one store lacks and the other has, also what was never owed to it",
        ) from None
    answer = done.report.as_dict(done.rules.unused, request.top)
    if request.do == "suggest":
        found = suggestions(done.report.findings(), done.report.counts)
        answer["suggestions"] = [each.as_dict() for each in found[: request.top]]
    if done.repair is not None:
        answer["repair"] = {
            "dry_run": request.dry_run,
            "written": done.repair.written,
            "in_no_store": done.repair.nowhere,
            "broke_off": done.report.broken_repair,
            "not_looked_at": done.report.unlisted,
        }
    return answer | {
        "left_out_s": request.settle_ns / 1e9 if what.span.end != request.to_ns else 0.0,
        "duration_s": round(time.monotonic() - begun, 3),
    }


async def _backfill(request: Request, settings: Settings, check: Check) -> dict[str, Any]:
    begun = time.monotonic()
    if request.source is None or request.target is None or request.source == request.target:
        raise BadRequest("a backfill is from one side to the other: old and new")
    if request.from_ns is None:
        raise BadRequest("a backfill needs a time from when on: --since")
    span = _span(request, max(check.window, LEAST_WINDOW / 1e9))
    order = Order(request.source, request.target, span, request.rate, request.dry_run)
    file = Path(settings.state_dir) / "checker" / f"backfill-{check.routes[0]}-{order.source}-{order.target}.json"
    show = _shown_backfill()
    try:
        async with AsyncExitStack() as stack:
            if not order.is_dry:
                stack.enter_context(_alone(file))
                if request.restart:
                    file.unlink(missing_ok=True)
            records, said = await records_of(settings, check, order.span, stack)
            outcome = await Backfill(check, order, records, file, progress=show).run()
    except OSError as error:
        raise BadRequest(f"the place of the backfill cannot be kept in {file}: {error.strerror}") from None
    done = outcome.done
    return {
        "result": "incomplete" if outcome.error else "done",
        "routes": list(check.routes),
        "source": order.source,
        "target": order.target,
        "from": iso(done.start),
        "to": iso(done.end),
        "done_until": iso(done.cursor),
        "record": said,
        "read": done.read,
        "written": done.written,
        "waiting": done.waiting,
        "dry_run": order.is_dry,
        "resumed_at": iso(outcome.resumed_at) if outcome.resumed_at is not None else None,
        "error": outcome.error,
        "left_out_s": request.settle_ns / 1e9 if span.end != request.to_ns else 0.0,
        "duration_s": round(time.monotonic() - begun, 3),
    }


async def _probe(request: Request, settings: Settings, check: Check) -> dict[str, Any]:
    """One marked event, from here to both stores."""
    if check.probe is None:
        raise BadRequest(
            f"the check of {', '.join(check.routes)} has no `probe`: it does not say what to send",
            hint="see config/REFERENCE.md, consistency[].probe",
        )
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        admin = Admin(socket_of(settings))
        asker = await stack.enter_async_context(admin) if admin.is_there() else None
        try:
            stores = await both_stores(check, stack)
        except StoreError as error:
            raise BadRequest(f"nothing was sent: {error}") from None
        outcome = await Prober(check, check.probe, url_of(settings, check.probe), asker).run(stores)
    routes = {"routes": list(check.routes)}
    return routes | outcome.as_dict() | {"duration_s": round(time.monotonic() - begun, 3)}


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Two runs would go on from one place, and each believe that the other's windows are its own."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequest("a backfill between these stores is running already") from None
        yield


def _classes(request: Request) -> list[str]:
    return request.kind.split(",") if request.kind is not None else []


def _wanted(request: Request) -> Callable[[str, Iterable[str], Iterable[str]], bool]:
    """Which findings are told, by class, sides they are held against and paths that differ: of some classes, against a
    side, and at or beneath a field.
    """
    if request.do == "suggest":
        return lambda _, _by, paths: any(True for _ in paths)
    kinds, field = _classes(request), (request.field or "").rstrip("/")

    def is_there(path: str) -> bool:
        return any(each == field or each.startswith(f"{field}/") for each in (path, general(path)))

    return lambda found, by, paths: (
        (not kinds or found in kinds)
        and (request.by is None or request.by in by)
        and (not field or any(map(is_there, paths)))
    )


def _span(request: Request, window: float) -> Span:
    """What is to be looked at: the last hour unless it is said, and nothing that has not settled. window: seconds."""
    now = time.time_ns() // 1_000_000 * 1_000_000
    settled = now - request.settle_ns
    end = min(request.to_ns, settled) if request.to_ns is not None else settled
    start = request.from_ns if request.from_ns is not None else end - HOUR
    if request.to_ns is not None and request.to_ns > now + DAY:
        raise BadRequest("the span ends more than a day from now: is that time in another unit?")
    if start >= end:
        raise BadRequest("the span ends before it begins, or what is in it has not settled yet")
    number = (end - start) / (window * 1e9)
    if number > MOST_WINDOWS:
        raise BadRequest(
            f"the span has {number:,.0f} windows", hint="name a shorter one, or give the check a larger `window`"
        )
    return Span(start, end)


def _progress() -> Callable[[int, int, Report], None]:
    """How far a check is."""
    write = _line()

    def show(done: int, of: int, report: Report) -> None:
        write(done, of, lambda: f"{report.counts.settled:,} events, {report.counts.mismatches:,} mismatches")

    return show


def _shown_backfill() -> Callable[[int, int, Done], None]:
    """How far a backfill is."""
    write = _line()

    def show(done: int, of: int, so_far: Done) -> None:
        write(done, of, lambda: f"{so_far.read:,} rows read, {so_far.written:,} written")

    return show


def _line() -> Callable[[int, int, Callable[[], str]], None]:
    """Writes a bar and a line, twice a second, when somebody watches."""
    if not sys.stderr.isatty():
        return lambda *_: None
    last = 0.0

    def write(done: int, of: int, text: Callable[[], str]) -> None:
        nonlocal last
        if done < of and time.monotonic() - last < 0.5:
            return
        last = time.monotonic()
        bar = "#" * (BAR * done // of)
        end = "" if done < of else "\n"
        print(f"\r\x1b[K[{bar:<{BAR}}] {done:,} of {of:,} windows, {text()}", end=end, file=sys.stderr, flush=True)

    return write


if __name__ == "__main__":
    try:
        print(orjson.dumps(main(sys.argv[1])).decode(), flush=True)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
