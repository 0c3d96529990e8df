"""The ledger: the durable record of every event and of what became of it at each side it is owed to.

    protocol    what workers and ledger say to each other
    marks       shared memory: which (bucket, side) has a backlog
    client      the workers' end: batches, resends, waits for durability
"""
