"""Stand-in for the live checker."""

from tests.control.standin import main

main("checker")
