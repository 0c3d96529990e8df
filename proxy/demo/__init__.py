"""`proxyctl demo`: two toy backends, the real proxy, a load, a fault, a revert, a recovery, and the proof.

    run.py       puts it together, ends it          comparison.py  stores against the client's own record
    story.py     what happens, in order             load.py        keyed events at a steady rate, and the record
    outcome.py   the judgement                      client.py      one HTTP/1.1 connection, raw
    view.py      plain lines, or a live view        backends.py    a toy backend (a process)
    instance.py  the real daemon                    faults.py      what can be wrong with it
    admin.py     its admin API                      store.py       its SQLite file
    children.py  processes with a log, free ports   toy.py         a toy backend seen from outside

The end to end tests use the same backends, load and comparison.
"""
