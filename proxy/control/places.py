"""Where everything of one instance lies, under its state directory."""

from __future__ import annotations

from pathlib import Path


class Places:
    """The files and sockets of an instance; all of mode 0600 in directories of mode 0700."""

    def __init__(self, state_dir: Path, admin_socket: str | None = None) -> None:
        self.root = state_dir
        self.lock = state_dir / "lock"
        """Held with flock by launcher and ledger; its text is the launcher's process id."""
        self.salt = state_dir / "salt.json"
        """Fingerprint of the salt that the events of this directory were placed by."""
        self.routing = state_dir / "routing.json"
        self.configuration = state_dir / "configuration.json"
        """Which configuration is served, key by key, and what is wrong with the file since then."""
        self.rollouts = state_dir / "rollouts.json"
        self.baselines = state_dir / "baselines.json"
        self.availability = state_dir / "availability.json"
        self.freezes = state_dir / "freezes.json"
        self.figures = state_dir / "figures.db"
        """What was counted in the last month."""
        self.hooks = state_dir / "hooks.json"
        """What alerts did."""
        self.sources = state_dir / "sources.json"
        """Which worker runs which source, and what was accepted of its states."""
        self.audit = state_dir / "audit.jsonl"
        self.tokens = state_dir / "tokens.json"
        self.ledger = state_dir / "ledger"
        """Directory of segment files and the disk reserve."""
        self.checker = state_dir / "checker"
        """Directory of what the live checker keeps."""
        self.ledger_socket = state_dir / "run" / "ledger.sock"
        self.fanout_socket = state_dir / "run" / "fanout.sock"
        """Where the ledger takes consumers' connections from workers."""
        self.fanout = state_dir / "fanout.db"
        """What consumers have been told."""
        self.control_socket = state_dir / "run" / "control.sock"
        self.switch = state_dir / "run" / "switch.json"
        """How it stands with the replacement of processes, as the launcher says it."""
        self.crew = state_dir / "run" / "crew.json"
        """Which processes keep dying, as the launcher says it."""
        self.admin_socket = Path(admin_socket) if admin_socket else state_dir / "admin.sock"

    def handover_socket(self, index: int) -> Path:
        """Where a worker that takes another one's place takes its connections. index: of both."""
        return self.root / "run" / f"handover-{index}.sock"

    def handover_sockets(self) -> list[Path]:
        """All of them, of workers that run or did."""
        return list((self.root / "run").glob("handover-*.sock"))
