"""Crossfade: a zero-downtime traffic-splitting event proxy.

One word for one thing, in code, commands, API, metrics and documents:

event       one HTTP request accepted from a client
backend     a named upstream; a route has two, `old` and `new`
side        which of a route's two backends is meant: OLD or NEW
route       match (host, path, method) plus the policy for what it matches
key         what an event is sticky and ordered by
bucket      salted hash of the key, 0 to 9,999
authority   the side whose answer the client gets for this event
copy        the same event delivered to the other side (dual write)
owed        an event is owed to a side until that side has it or it is settled otherwise
ledger      the durable record of every event and of what became of it at each side it is owed to
epoch       the revision of the live routing; never reused; every event is explained by exactly one
weight      percent of the buckets whose authority is new
stage       the name of a position of the two dials, weight and copy
mark        a byte in shared memory: this bucket has a backlog at this side, hand events to the ledger
hand        a worker gives one side of an event to the ledger, which then delivers it
revert      the proxy itself moving the weight to 0 after a verdict
latch       no weight above 0 until a person re-arms the route

Layers, each importing only what stands before it:

    config -> core -> ledger -> http -> worker
                   -> control -> cli, demo
"""

import gc

# Of every process of ours, and of whoever imports a part. The interpreter's own 700 cost a seventh of a start, which
# makes objects to keep; later events, and the checker's rows, come and go without cycles.
gc.set_threshold(50_000, 20, 50)
