"""What the book has of its events becomes the rows of a group: in the loop, so that the store's thread only writes."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import orjson

from proxy.core.event import NEW, OLD
from proxy.core.owed import DEAD, OPEN, PENDING
from proxy.ledger.entry import IN_FLIGHT, Entry
from proxy.ledger.group import Group

_KEEPS_BODY: Final = tuple(state in OPEN or state == DEAD for state in range(16))


def pack_new(group: Group, entries: list[Entry], on_disk: dict[int, Entry]) -> None:
    """Receipts of events that were not written before; there is one at least. on_disk: gets those with a body."""
    receipts, bodies, states = group.receipts, group.bodies, group.states
    retain = group.retain_bodies
    alike: tuple[str, int, int] = ("", 0, 0)  # most follow one of their kind, so these are counted together
    run = 0
    for e in entries:
        old, new, body, context = e.old_state, e.new_state, e.body, e.context
        # SHA-256, cut to 128 bits: whoever compares digests later must not be fooled by a client that
        # makes collisions, and for a body of 290 bytes it costs 0.3 us more than XXH3.
        receipts += (
            e.seq, e.stream, e.n, e.id, e.route, e.key, e.bucket, e.epoch, e.authority, e.after_authority,
            e.transport, e.accepted_ns, e.event_time,
            orjson.dumps(e.identities).decode() if e.identities else "",
            context[: context.find(b"\r\n")].decode("latin-1"), sha256(body).digest()[:16], len(body), e.client_id,
            e.owed, e.held, old, e.old_status, e.old_attempts, new, e.new_status, e.new_attempts,
        )  # fmt: skip
        if old == alike[1] and new == alike[2] and e.route == alike[0]:
            run += 1
        else:
            states[alike] += run
            alike, run = (e.route, old, new), 1
        e.stage = IN_FLIGHT
        e.special = True
        if retain or _KEEPS_BODY[old] or _KEEPS_BODY[new]:
            bodies += (e.seq, context, body)
            e.has_body = True
            e.changed = 0
            on_disk[e.seq] = e
        if e.received:
            group.received.append((e.seq, e.received, context, body))
        e.on_disk = old * 16 + new
    states[alike] += run
    del states["", 0, 0]
    group.entries = entries
    group.last_seq = entries[-1].seq
    group.newest_ns = entries[-1].accepted_ns


def pack_changed(group: Group, entries: list[Entry], on_disk: dict[int, Entry]) -> None:
    """What became of events whose receipts are on disk, or on their way there. on_disk: gets those with a body."""
    for e in entries:
        e.dirty = False
        if _KEEPS_BODY[e.old_state] or _KEEPS_BODY[e.new_state]:
            group.needed.add(e.seq)
            if not e.has_body:
                # Settled when it was written, and owed to another side while that was under way, or taken back.
                group.bodies_again.append((e.seq, e.context, e.body))
                e.has_body = True
                on_disk[e.seq] = e
        elif e.window and not group.retain_bodies:
            e.has_body = False  # it goes with this
        if e.received:
            group.received.append((e.seq, e.received, e.context, e.body))
        held = (e.held, e.authority, e.owed)
        if not e.changed:
            group.held.append((e.seq, *held))
        if e.changed & 1:
            before = e.on_disk >> 4
            if before != e.old_state == PENDING:
                group.opened.append((e, OLD))
            group.sides[0].append((e.seq, e.route, before, e.old_state, e.old_status, e.old_attempts, *held))
        if e.changed & 2:
            before = e.on_disk & 15
            if before != e.new_state == PENDING:
                group.opened.append((e, NEW))
            group.sides[1].append((e.seq, e.route, before, e.new_state, e.new_status, e.new_attempts, *held))
        e.changed = 0
        e.on_disk = e.old_state * 16 + e.new_state
    group.entries = group.entries + entries
