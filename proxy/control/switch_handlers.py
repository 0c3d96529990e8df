"""The operations that replace processes, and tell how that goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from proxy.control import views
from proxy.control.admin import Call
from proxy.control.audit import iso
from proxy.control.instance import Instance
from proxy.control.switch_state import SwitchState

Record = Callable[[Call, str, dict[str, Any]], Awaitable[None]]


class SwitchHandlers:
    """record: writes the audit line of a change, or raises."""

    def __init__(self, instance: Instance, record: Record) -> None:
        self._instance = instance
        self._record = record

    async def switch(self, _call: Call) -> views.SwitchView:
        """The last one."""
        return switch_view(self._instance.switches.state)

    async def upgrade(self, call: Call) -> views.SwitchView:
        """Begin one, with the code that is on the disk now."""
        switches = self._instance.switches
        switches.check()
        await self._record(call, "upgrade", {})
        if call.who.dry_run:
            return switch_view(switches.state, dry_run=True)
        return switch_view(await switches.begin("upgrade"))


def switch_view(state: SwitchState | None, *, dry_run: bool = False) -> views.SwitchView:
    """A switch as the API tells it; number 0 where there was none."""
    if state is None:
        state = SwitchState(0, "", "ended", 0.0)
    return views.SwitchView(
        number=state.number,
        kind=state.kind,
        phase=state.phase,
        result=state.result,
        reason=state.reason,
        began_at=iso(state.began_at) if state.began_at else None,
        ended_at=iso(state.ended_at) if state.ended_at else None,
        version_before=state.version_before,
        version_after=state.version_after,
        processes=[views.ProcessView(each.name, each.state, each.pid, each.reason) for each in state.processes],
        detail=state.detail,
        dry_run=dry_run,
    )
