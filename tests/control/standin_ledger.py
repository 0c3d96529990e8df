"""Stand-in for the ledger."""

from tests.control.standin import main

if __name__ == "__main__":
    main("ledger")
