"""The status as an operator reads it: what is wrong stands out, and says what to do.

crossfade 0.1.0 at unix:crossfade-state/admin.sock: ready, epoch 7, up 2h 5m

events  live  weight 25 % (observed 24.7 %, 23.9 to 25.6 %)  copy durable  120/s
  side  backend  rate    errors  p50     p95     p99     breaker  health   pending  oldest  deferred  dead
  old   old      90.1/s  0 %     1.2 ms  3.4 ms  5.6 ms  closed   healthy  0        -       0         0
  new   new      29.9/s  0 %     ...

the rest -> old: 17 passed
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.cli.freeze import frozen_text
from proxy.cli.output import age, bold, clean, count, percent, rate, red, seconds, share, size, table
from proxy.cli.reload import trouble_lines
from proxy.cli.rollout import paused_text, resume_text
from proxy.cli.routing import observed_text
from proxy.cli.upgrade import progress, summary, versions

if TYPE_CHECKING:
    from proxy.cli.client import Json

_FIGURES = ["rate", "errors", "p50", "p95", "p99", "breaker", "health", "pending", "oldest", "deferred", "dead"]
MOST_PATHS = 5
"""Of answers, that are listed."""
_SIDE = ["side", "backend", *_FIGURES]
_WORKER = ["worker", "pid", "epoch", "in-flight", "clients", "sessions", "memory", "held", "restarts"]


def render(status: Json) -> str:
    """The whole status as text."""
    lines = [_head(status), *_configuration(status.get("configuration") or {})]
    for route in status.get("routes", []):
        lines += ["", *_route(route)]
    if status.get("default"):
        lines += ["", f"the rest -> {clean(status['default'])}: {count(status.get('passed_through'))} passed"]
    lines += _switch(status.get("switch"))
    lines += ["", *_workers(status), *_sessions(status.get("sessions")), "", *_ledger(status.get("ledger") or {})]
    lines += _checks(status.get("consistency") or [])
    lines += _answers(status.get("answers") or [])
    lines += _certificates(status.get("certificates", []))
    lines += _sources(status.get("sources") or [])
    lines += _dependencies(status.get("dependencies", []))
    lines += _receivers(status.get("notifications") or [])
    lines += [red(f"warning: {clean(warning)}") for warning in status.get("warnings", [])]
    return "\n".join(lines)


def _head(status: Json) -> str:
    state = "ready" if status.get("ready") else red("NOT READY")
    if status.get("draining"):
        state = red("DRAINING")
    up = _up(status.get("started_at"))
    where = f" at {clean(status['admin'])}" if status.get("admin") else ""
    available = (status.get("availability") or {}).get("ratio")
    served = f", clients served {share(available)} of the time" if available is not None else ""
    version, epoch = clean(status.get("version")), clean(status.get("epoch"))
    return f"crossfade {version}{where}: {state}, epoch {epoch}, up {up}{served}"


def _configuration(served: Json) -> list[str]:
    """Which configuration is served, where there is something to say of that."""
    if not served:
        return []
    trouble = served.get("trouble")
    if trouble:
        return trouble_lines(trouble)
    if served.get("workers", 0) < served.get("of", 0):
        of = f"{count(served.get('workers'))} of {count(served.get('of'))} workers go by the one of"
        return [red(f"configuration  {clean(served.get('file'))}: {of} {clean(served.get('loaded_at'))}")]
    return [f"configuration  {clean(served.get('file'))}, loaded {clean(served.get('loaded_at'))}"]


def _by(route: Json) -> str:
    """Whose the position is, where it is not the file's: ` (by command; file says dualwrite, 0 %)`."""
    file = route.get("file") or {}
    here, there = (route.get("stage"), route.get("weight_target")), (file.get("stage"), file.get("weight"))
    if not file or here == there:
        return ""
    rollout = (route.get("rollout") or {}).get("phase")
    is_rollouts = rollout not in (None, "done", "aborted", "reverted")
    by = "reverted" if route.get("latched") else "by its rollout" if is_rollouts else "by command"
    said = percent(file.get("weight"))
    return f" ({by}; file says {said if here[0] == there[0] else f'{clean(there[0])}, {said}'})"


def _switch(switch: Json | None) -> list[str]:
    """The replacement of processes that runs, or ran last."""
    if not switch:
        return []
    head = f"{summary(switch)}, {versions(switch)}"
    if switch["phase"] != "ended":
        return ["", bold(f"{head}: {progress(switch)}")]
    reason = f": {clean(switch['reason'])}" if switch["reason"] else ""
    line = f"{head}{reason}, at {clean(switch['ended_at'])}"
    return ["", line if switch["result"] == "done" else red(line)]


def _up(started_at: str | None) -> str:
    try:
        started = datetime.fromisoformat(started_at or "")
    except ValueError:
        return "-"
    started = started if started.tzinfo else started.replace(tzinfo=UTC)
    return age(max(0.0, (datetime.now(UTC) - started).total_seconds()))


def _route(route: Json) -> list[str]:
    name = clean(route.get("name"))
    seen = observed_text(route.get("weight_observed"), route.get("weight_observed_interval"))
    dial = (
        f"weight {percent(route.get('weight_target'))}{_by(route)} (observed {seen})  copy {clean(route.get('copy'))}"
    )
    traffic = f"{rate(route.get('rate'))}, {count(route.get('accepted_total'))} accepted"
    lines = [f"{bold(name)}  {bold(clean(route.get('stage')))}  {dial}  {traffic}"]
    if route.get("latched"):
        lines.append(red(f"  LATCHED at weight 0: {clean(route.get('latch_reason'))}"))
        lines.append(f"  see: proxyctl why --route {name}    when new is well again: proxyctl rearm --route {name}")
    if route.get("frozen"):
        lines.append(red(f"  FROZEN {frozen_text(route['frozen'])}"))
    lines += _verdict(route.get("verdict") or {})
    lines += _rollout(name, route.get("rollout"))
    sides = route.get("sides", {})
    lines += table(_SIDE, [_side(which, sides[which]) for which in ("old", "new") if which in sides], "  ")
    for which, side in sides.items():
        lines += _endpoints(which, side)
        lines += _consumer(which, side)
        lines += _trouble(which, side)
    return lines


def _verdict(verdict: Json) -> list[str]:
    """What the guard thinks of new, and why that is not `pass`."""
    name, samples = verdict.get("name"), verdict.get("samples")
    if name is None:
        return []
    line = f"  verdict {clean(name)}, {count(samples)} answers of new since the last change"
    lines = [red(line) if name == "fail" else line]
    return lines + [f"    {clean(reason)}" for reason in verdict.get("reasons", [])]


def _rollout(route: str, rollout: Json | None) -> list[str]:
    """How far the staged plan is; nothing where there never was one."""
    if not rollout:
        return []
    phase, reason = clean(rollout.get("phase")), rollout.get("reason")
    at = f"step {count(rollout.get('step'))} of {count(rollout.get('of'))}, {percent(rollout.get('weight'))}"
    by = paused_text(rollout) if phase == "paused" else ""
    line = f"  rollout {phase}{by} at {at}{f': {clean(reason)}' if reason else ''}"
    lines = [red(line) if phase in ("reverted", "paused") else line]
    return [*lines, f"    {resume_text(route)}"] if phase == "paused" else lines


def _side(which: str, side: Json) -> list[str]:
    ledger = side.get("ledger") or {}
    healthy = side.get("healthy")
    return [
        which,
        clean(side.get("backend")),
        rate(side.get("rate")),
        share(side.get("error_rate")),
        *(seconds(side.get(quantile)) for quantile in ("p50", "p95", "p99")),
        clean(side.get("breaker")),
        "-" if healthy is None else "healthy" if healthy else "UNHEALTHY",
        count(ledger.get("pending")),
        age(ledger.get("oldest_age_s")) if ledger.get("pending") else "-",
        count(ledger.get("deferred")),
        count(ledger.get("dead")),
    ]


def _endpoints(which: str, side: Json) -> list[str]:
    """Several endpoints, or a single one that is not well."""
    endpoints = side.get("endpoints") or []
    if len(endpoints) < 2 and all(each.get("state") == "up" for each in endpoints):
        return []
    return [_endpoint(which, each) for each in endpoints]


def _endpoint(which: str, endpoint: Json) -> str:
    state, trouble = clean(endpoint.get("state")), endpoint.get("trouble")
    figures = f"{count(endpoint.get('outstanding'))} outstanding, {count(endpoint.get('connections'))} connections"
    line = f"  {which} {clean(endpoint.get('address'))}: {state}, {figures}"
    if trouble:
        line += f"; {clean(trouble)}"
    return line if state == "up" else red(line)


def _consumer(which: str, side: Json) -> list[str]:
    """Of a backend that connects itself."""
    consumer, ledger = side.get("consumer"), side.get("ledger") or {}
    if not consumer:
        return []
    state = "connected for" if consumer.get("connected") else "AWAY for"
    figures = f"{count(consumer.get('told'))} told, {count(ledger.get('pending'))} pending"
    line = f"  {which} consumer {clean(side.get('backend'))}: {state} {age(consumer.get('for_s'))}, {figures}"
    return [line if consumer.get("connected") else red(line)]


def _trouble(which: str, side: Json) -> list[str]:
    """What somebody should do something about at one side; the API's own warnings say the rest."""
    ledger = side.get("ledger") or {}
    where = f"{which} ({clean(side.get('backend'))}, {clean(side.get('url'))})"
    lines = []
    if side.get("breaker") == "open":
        lines.append(f"{where}: breaker open, events wait in the ledger or fail over until it answers again")
    if side.get("healthy") is False:
        lines.append(f"{where}: its health probe fails")
    if ledger.get("dead"):
        lines.append(f"{where}: {count(ledger['dead'])} dead letters; see: proxyctl dead ls --side {which}")
    if ledger.get("lost"):
        lines.append(f"{where}: {count(ledger['lost'])} best effort copies lost")
    return [red(f"  {line}") for line in lines]


def _workers(status: Json) -> list[str]:
    epoch = status.get("epoch", 0)
    rows = []
    for worker in status.get("workers", []):
        at = worker.get("epoch")
        late = "" if at == epoch else f" (not {epoch} yet)"
        state = " DOWN" if not worker.get("alive") else " SHEDS" if worker.get("sheds") else ""
        rows.append(
            [
                f"{worker.get('index')}{state}",
                clean(worker.get("pid")),
                f"{clean(at)}{late}",
                count(worker.get("in_flight")),
                count(worker.get("clients")),
                *([count(worker.get("sessions"))] if status.get("sessions") else []),
                size(worker.get("rss_bytes")),
                f"{size(worker.get('held_bytes'))} of {size(worker.get('budget_bytes'))}",
                count(worker.get("restarts")),
            ]
        )
    columns = [name for name in _WORKER if name != "sessions" or status.get("sessions")]
    return table(columns, rows) if rows else [red("no worker has reported")]


def _sessions(sessions: Json | None) -> list[str]:
    """Nothing where no route takes any."""
    if not sessions:
        return []
    messages = f"{count(sessions.get('from_client'))} messages of clients, {count(sessions.get('to_client'))} to them"
    dropped = f", {count(sessions['dropped'])} of the other side dropped" if sessions.get("dropped") else ""
    return ["", f"sessions  {count(sessions.get('open'))} open, {messages}{dropped}"]


def _ledger(ledger: Json) -> list[str]:
    if not ledger.get("alive"):
        return [red("ledger DOWN: events that need it get 503 until it is back")]
    if ledger.get("balanced") is None:
        return ["ledger  it has not told of itself yet"]
    balance = "balanced" if ledger.get("balanced") else red("NOT BALANCED")
    disk = f"{size(ledger.get('bytes_on_disk'))} in {count(ledger.get('segments'))} segments"
    free = f"{size(ledger.get('disk_free'))} free"
    states = ", ".join(f"{name} {count(ledger.get(name))}" for name in ("pending", "deferred", "dead", "receipts"))
    commit = f"commit p99 {seconds(ledger.get('commit_p99_s'))}"
    lines = [f"ledger  {balance}, {states}, {disk}, {free}, {commit}"]
    if ledger.get("low_disk"):
        lines.append(red("  LOW DISK: new events get 503 until there is room"))
    return lines


def _checks(checks: list[Json]) -> list[str]:
    lines = []
    for check in checks:
        trial = check.get("since_change") or {}
        rate = trial.get("rate")
        found = f"{count(trial.get('mismatches'))} mismatches of {count(trial.get('settled'))} events"
        if trial.get("mismatches"):
            found = red(f"{found} ({share(rate)}), {count(trial.get('lost'))} lost")
        until = f"judged until {age(check.get('behind_s'))} ago" if check.get("windows") else "nothing judged yet"
        waiting = f", {count(check['pending'])} windows wait for the ledger" if check.get("pending") else ""
        lines.append(
            f"consistency  {clean(', '.join(check.get('routes', [])))}: {found} since the weight was changed, {until}"
            f"{waiting}"
        )
        probe = check.get("probe") or {}
        if probe.get("passed") is not None:
            seen = ", ".join(f"{name} {seconds(after)}" for name, after in probe.get("visible", {}).items())
            said = (
                f"passed, in {seen or 'no store'}" if probe["passed"] else red(f"FAILED, {clean(probe.get('error'))}")
            )
            lines.append(f"  probe of {clean(probe.get('sent'))}: {said}")
    return lines


def _answers(routes: list[Json]) -> list[str]:
    """Figures of routes whose answers are compared, and the paths that say something of new."""
    lines = []
    for route in routes:
        if not route.get("compared"):
            how = "none compared yet" if route.get("comparing") else "not compared in this stage"
            lines.append(f"answers  {clean(route.get('route'))}: {how}")
            continue
        total, beyond = route["compared"], route.get("beyond_noise")
        noise = f"noise known of {count(route['noise_compared'])}" if route.get("noise_compared") else "noise unknown"
        said = f"{count(beyond)} of {count(total)} differ"
        lines.append(f"answers  {clean(route.get('route'))}: {red(said) if beyond else said}, {noise}")
        most = sorted(route.get("fields", {}).items(), key=lambda each: -each[1]["different"])[:MOST_PATHS]
        lines += [
            f"  {clean(path)} {share(each['different'])}, old itself {share(each['noise'])}" for path, each in most
        ]
        if route.get("trouble"):
            lines.append(f"  old cannot be asked twice: {clean(route['trouble'])}")
    return lines


def _certificates(certificates: list[Json]) -> list[str]:
    return [
        f"certificate  {clean(each.get('listen'))}: {clean(each.get('file'))}"
        f" for {', '.join(clean(name) for name in each.get('names', [])) or 'no name'}"
        f", until {clean(each.get('expires_at'))}"
        for each in certificates
    ]


def _sources(sources: list[Json]) -> list[str]:
    lines = []
    for each in sources:
        at = f" in worker {count(each['worker'])}" if each.get("worker") is not None else ""
        traffic = f"{rate(each.get('rate'))}, {count(each.get('accepted'))} accepted"
        told = [
            f"{count(each[name])} {name}"
            for name in ("recovered", "refused", "repeated", "gaps", "unreadable", "unaccepted")
            if each.get(name)
        ]
        state = clean(each.get("state"))
        state = state if state == "connected" else red(state.upper())
        name = f"{clean(each.get('name'))} -> {clean(each.get('route'))}"
        line = f"source  {name}: {state}{at}, {', '.join([traffic, *told])}"
        lines.append(f"{line}; {red(clean(each['trouble']))}" if each.get("trouble") else line)
    return lines


def _dependencies(dependencies: list[Json]) -> list[str]:
    lines = []
    for entry in dependencies:
        what = f"{clean(entry.get('name'))} of {clean(entry.get('backend'))} ({clean(entry.get('address'))})"
        if entry.get("healthy"):
            lines.append(f"dependency  {what}: healthy")
        else:
            lines.append(red(f"dependency  {what}: UNHEALTHY, {clean(entry.get('detail'))}"))
    return lines


def _receivers(receivers: list[Json]) -> list[str]:
    """Those that fail now, or were not told of something since the start; the others are in `-o json`."""
    lines = []
    for each in receivers:
        trouble, dropped = each.get("trouble"), each.get("dropped")
        if not trouble and not dropped:
            continue
        last = each.get("last_success")
        told = f"told last at {clean(last)}" if last else "told of nothing since the start"
        figures = f"{count(each.get('waiting'))} waiting, {count(dropped)} dropped"
        name = clean(each.get("name"))
        if trouble:
            lines.append(red(f"notifications  {name}: FAILS, {clean(trouble)}; {figures}, {told}"))
        else:
            lines.append(f"notifications  {name}: {'well again' if last else 'not tried yet'}; {figures}, {told}")
    return lines
