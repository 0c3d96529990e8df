"""What a switch is to do, found by a process of the new code: `python -m proxy.worker.preflight KIND`.

It begins nothing and changes nothing. All that can be known before a process is replaced is found here: whether the new
code can be loaded, whether it reads the settings and what lies in the state directory.

CROSSFADE_CONFIG_FD        the present settings
CROSSFADE_NEXT_CONFIG_FD   memfd for the settings of the processes to come
CROSSFADE_RESULT_FD        memfd for a `Preflight`, as JSON
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from config.model import Settings
from proxy.control import sealed
from proxy.control.carried import Carried
from proxy.control.file_store import read_state
from proxy.control.inherit import Inherited, places_of
from proxy.control.plan import KINDS as PROCESSES
from proxy.control.plan import Kind, Plan, Preflight, Terms
from proxy.control.reload import Looked, NobodyDecides, look, propose
from proxy.control.version import VERSION
from proxy.core.errors import RefuseToStart
from proxy.ledger.store import check_directory


class Found(NamedTuple):
    """The settings of the processes to come, what is carried on to them, and the plan."""

    settings: Settings
    carried: Carried | None
    plan: Plan


def upgrade(inherited: Inherited) -> Found:
    """The same settings with other code: everybody is replaced."""
    return Found(inherited.settings, inherited.carried, Plan("upgrade", Terms.of(inherited.settings)))


def reload(inherited: Inherited) -> Found:
    """The settings that the file holds now, as far as the supervisor lets; whom they touch is replaced."""
    before = inherited.settings
    looked = look(inherited.config_path, before)
    decided = propose(inherited.places.control_socket, looked.proposal)
    if decided.refused:
        raise RefuseToStart("; ".join(decided.refused))
    assert looked.settings is not None  # who has errors is refused
    carried = (inherited.carried or Carried.first(before)).after(before, looked.settings)
    detail = {"changes": [each.key for each in looked.proposal.changes]}
    plan = Plan("reload", Terms.of(looked.settings), replaced_by(looked), detail)
    return Found(looked.settings, carried, plan)


def replaced_by(looked: Looked) -> tuple[Kind, ...]:
    """Whom a changed file replaces. Running workers are told of live keys; the others read theirs when they start."""
    kinds = {"supervisor": "supervisor", "ledger": "ledger", "checker": "checker"}
    wanted = {kinds[each] for each in looked.touched if each in kinds}
    if any(each.kind == "startup" for each in looked.proposal.changes):
        wanted.add("worker")
    return tuple(kind for kind in PROCESSES if kind in wanted)


KINDS: Final[dict[str, Callable[[Inherited], Found]]] = {"upgrade": upgrade, "reload": reload}


def load_code(modules: Sequence[str]) -> None:
    """Load what the processes to come will run; raises RefuseToStart."""
    for module in modules:
        try:
            importlib.import_module(module)
            if hasattr(sys.modules[module], "__path__"):  # `python -m` of a package runs this
                importlib.import_module(f"{module}.__main__")
        except Exception as error:
            raise RefuseToStart(f"{module} cannot be loaded: {type(error).__name__}: {error}") from error


def check_state(settings: Settings) -> None:
    """That this version reads what lies in the state directory; raises RefuseToStart."""
    places = places_of(settings)
    read_state(places.routing)
    check_directory(places.ledger)


def preflight(kind: str, modules: Sequence[str], inherited: Inherited) -> tuple[Preflight, bytes]:
    """What was found, and the settings to pass on."""
    try:
        if kind != "reload":  # which is by the code that runs already
            load_code(modules)
        found = KINDS[kind](inherited)
        check_state(found.settings)
    except (RefuseToStart, NobodyDecides) as refusal:
        return Preflight(refused=str(refusal), version=VERSION), b""
    return Preflight(plan=found.plan, version=VERSION), sealed.seal(found.settings, VERSION, found.carried)


def main(arguments: Sequence[str]) -> int:
    """arguments: the kind, then the modules that processes are started by; 0 once the result is written."""
    kind, *modules = arguments
    try:
        inherited = Inherited.from_environment()
    except RefuseToStart as refusal:
        result, settings = Preflight(refused=str(refusal), version=VERSION), b""
    else:
        result, settings = preflight(kind, modules, inherited)
    os.write(int(os.environ["CROSSFADE_NEXT_CONFIG_FD"]), settings)
    os.write(int(os.environ["CROSSFADE_RESULT_FD"]), msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
