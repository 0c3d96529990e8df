"""What the doctor's tests share with the control plane's."""

from __future__ import annotations

from tests.control.conftest import make_plane, plane, state_dir

__all__ = ["make_plane", "plane", "state_dir"]
