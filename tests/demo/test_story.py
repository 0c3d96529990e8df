"""The live figures show both halves of the load, and each route."""

from __future__ import annotations

from config.units import Address
from proxy.demo.clients import Clients
from proxy.demo.record import Promise
from proxy.demo.story import figures
from tests.demo.test_outcome import status


def test_figures_of_requests_and_sessions() -> None:
    clients = Clients(Address("127.0.0.1", 1), requests=250, messages=100)
    clients.http.record.promises.append(Promise("a", "k", "old", 201, 0.0, 1.0))
    clients.http.record.statuses[503] = 2
    clients.sessions.record.promises += [Promise(id, "k", "", 0, 0.0, 1.0, is_message=True) for id in "bc"]
    clients.sessions.record.failures["session closed (1006)"] = clients.sessions.record.closed = 1
    lines = [" ".join(line.split()) for line in figures(status(delivered=7, pending=3), clients)]
    assert lines[1:3] == [
        "requests 1 accepted 2 errors 250/s",
        "messages 2 accepted 8 sessions, 1 closed 100/s",
    ]
    assert [line for line in lines if line.endswith("weight 100 %")] == [
        "events: rampdown, weight 100 %",
        "stream: rampdown, weight 100 %",
    ]
    assert [line.split(" pending ")[1] for line in lines if " pending " in line] == ["0 closed"] * 2 + ["3 closed"] * 2
    assert (clients.accepted, clients.client_errors) == (3, 3)
    assert clients.record.accepted == 3
