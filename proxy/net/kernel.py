"""What the kernel knows of a connection and no transport tells."""

from __future__ import annotations

import asyncio
import termios
from fcntl import ioctl


def unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Bytes that the other machine has not confirmed yet (tcp(7), SIOCOUTQ); 0 for a lost connection."""
    answer = bytearray(4)
    try:
        ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, answer)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(answer, "little")
