"""Stand-in for the live checker."""

from tests.control.standin import main

if __name__ == "__main__":
    main("checker")
