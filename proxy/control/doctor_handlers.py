"""The operation that looks at everything that may be wrong."""

from __future__ import annotations

import asyncio

from proxy.control import views
from proxy.control.admin import Call
from proxy.control.doctor.examine import Examination
from proxy.control.doctor.finding import FAIL, OK, WARN, Finding
from proxy.control.instance import Instance
from proxy.control.version import VERSION


class DoctorHandlers:
    """One look at a time: who asks meanwhile hears what that one finds."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._look: asyncio.Task[list[Finding]] | None = None

    async def doctor(self, _call: Call) -> views.Diagnosis:
        """What may be wrong, and what to change."""
        if self._look is None or self._look.done():
            instance = self._instance
            self._look = asyncio.create_task(Examination(instance.settings, instance.config_path, instance).run())
        findings = await asyncio.shield(self._look)
        states = {each.state for each in findings}
        return views.Diagnosis(next((each for each in (FAIL, WARN) if each in states), OK), VERSION, findings)
