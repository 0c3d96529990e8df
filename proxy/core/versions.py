"""Which version reads what another one wrote.

Version N reads what N-1 wrote. What N writes says from which version on it can be read, so that N-1 can go on with it
when an upgrade is taken back: that holds as long as N only adds what N-1 may pass over.

    wrote 3, readable from 2    read by 2 (newer, and meant for it), 3, 4 (one later)
"""

from __future__ import annotations


def can_read(schema: int, readable_from: int, *, ours: int, oldest: int) -> bool:
    """May this version go on with a file? ours: its own schema; oldest: the oldest that it knows how to read."""
    return oldest <= schema <= ours or (schema > ours and readable_from <= ours)
