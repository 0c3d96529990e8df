"""The live checker: a process under the launcher that judges each window as it settles.

`check` is one check's life, `journal` what it keeps, `backlog` how it knows what is owed where the ledger cannot name
rows, `visibility` when a window may be judged, `__main__` the process.
"""
