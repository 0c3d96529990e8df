"""Stand-in for the supervisor."""

from tests.control.standin import main

if __name__ == "__main__":
    main("supervisor")
