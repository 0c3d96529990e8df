"""The load generator: of `proxyctl load`, of the demo and of the benchmark.

    schedule --offer(n, due)--> Generator --> Lane --> Wire (one connection), or a Place in a Session
                                    ^           |
                                    |           v
                                    +------ Listener.ended: counts, and says whether to send it again

Latency counts from when an event was *due*. A generator that waits for an answer before it sends again asks a
target that stalls for less, and so makes it look better than it is; here what is due while all connections are
busy waits in a queue, and its waiting is part of its latency.

    event      a request with an id of its own, or a message of a WebSocket session
    due        when it should leave, `time.perf_counter()` seconds (uvloop's own clock counts whole milliseconds)
    lane       a place for one event at a time, with a connection that is opened again when it was closed; sessions,
               which wait for no answer, have many lanes each
"""
