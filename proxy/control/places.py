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
        self.rollouts = state_dir / "rollouts.json"
        self.audit = state_dir / "audit.jsonl"
        self.tokens = state_dir / "tokens.json"
        self.ledger = state_dir / "ledger"
        """Directory of segment files and the disk reserve."""
        self.checker = state_dir / "checker"
        """Directory of what the live checker keeps."""
        self.ledger_socket = state_dir / "run" / "ledger.sock"
        self.control_socket = state_dir / "run" / "control.sock"
        self.admin_socket = Path(admin_socket) if admin_socket else state_dir / "admin.sock"
