"""`python -m demo`: what the Makefile calls."""

import sys

from demo.commands import main

sys.exit(main(sys.argv[1:]))
