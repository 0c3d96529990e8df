"""The ledger: the durable record of every event and of what became of it at each side it is owed to.

    workers --protocol--> server --> book --committer--> store --> segments
    (client)                          |  ^                            |
                           backlog, turns |                         reader
                           (marks)        +-- replayer: lanes, gates <-+--> deliver(event, attempt)

protocol    what workers and ledger say to each other; framing: its messages on a socket
client      the workers' end: batches, resends, waits for durability
marks       shared memory: which (bucket, side) has a backlog; backlog counts what stands behind each mark
server      the socket; entry, book: what is known of events that somebody works on; turns: strict ordering
young       which new events miss a group; windows: which may be taken back; packing: entries -> rows
group       what one commit writes; committer writes groups; store, segment, schema, bulk, received_rows: the files
reader      reads what is pending; lane, gate, backoff: what may be delivered now; replayer delivers it
moves       carry-over, requeue, discard, replay; queries: what the admin API asks; disk: room and reserve
keeper      puts it all together and keeps its times
"""
