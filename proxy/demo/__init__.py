"""`proxyctl demo`: two toy backends, the real proxy, a load, a fault, a revert, a recovery, and the proof.

    story.py       what happens, in order            comparison.py  stores against the client's own record
    run.py         puts it together, ends it         load.py        keyed events at a steady rate, and the record
    instance.py    the real daemon and its admin     client.py      one HTTP/1.1 connection, raw
    backends.py    the two toy backends (a process)  children.py    processes with a log, free ports
    view.py        plain lines, or a live view       store.py       a backend's SQLite file

The end to end tests use the same backends, load and comparison.
"""
