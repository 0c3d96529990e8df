"""`proxyctl demo`: two toy backends, the real proxy, a load, a fault, a revert, a recovery, and the proof.

    run.py       puts it together, ends it          comparison.py  stores against the clients' own record
    story.py     what happens, in order             record.py      what clients sent, and were promised
    outcome.py   the judgement                      clients.py     both halves of the load
    view.py      plain lines, or a live view        load.py        requests at a steady rate
    instance.py  the real daemon                    sessions.py    messages at a steady rate, over WebSocket
    admin.py     its admin API                      backends.py    a toy backend (a process)
    children.py  processes with a log, free ports   faults.py      what can be wrong with it
    toy.py       a toy backend seen from outside    store.py       its SQLite file
    control.py   the port at which faults are set

The end to end tests use the same backends, load and comparison.
"""
