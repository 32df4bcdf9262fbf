"""`python -m evcharge`, the same as `evcharge`."""

from evcharge.cli import main

main()
