"""Stand-in for the ledger."""

from tests.control.standin import main

main("ledger")
