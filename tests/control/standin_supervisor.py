"""Stand-in for the supervisor."""

from tests.control.standin import main

main("supervisor")
