"""Stand-in for the worker."""

import sys

from tests.control.standin import main

if __name__ == "__main__":
    main("worker" + sys.argv[2])
