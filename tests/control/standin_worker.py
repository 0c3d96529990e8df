"""Stand-in for the worker."""

import sys

from tests.control.standin import main

main("worker" + sys.argv[2])
