"""`python -m egress`: the same as `egress`."""

from egress.cli import program

program()
