"""`python -m diablo VERB`: the same as the `diablo` command, but that a fork server may run it."""

import sys

from diablo.forking.client import forwarded

status = forwarded(sys.argv[1:])
if status is None:
    from diablo.cli import main

    status = main()
sys.exit(status)
