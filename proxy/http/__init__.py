"""HTTP/1.1, both ways: strict heads in, our own heads out.

head        request heads: grammar, limits, what is forwarded
response_head   the same for a backend's answers
chunked     chunked bodies, strictly
matching    which route takes a request
values      keys, ids and times read from an event
downstream  a client's connection
upstream    a backend's connections
exchange    the way of one event, from its head to its answer
passing     requests that no route takes, passed through
answers     the answers that are our own
deliver     deliver(event, attempt) -> Outcome, for the ledger
"""
