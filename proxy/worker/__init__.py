"""Processes of the data plane: `proxy.worker` serves clients, `proxy.worker.ledger_process` keeps the record."""
