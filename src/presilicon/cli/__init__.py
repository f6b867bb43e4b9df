"""The command line: one file per command, loaded when it is asked for; exit 0 done, 1 a check did not hold, 2 bad input."""

from presilicon.cli.app import main

__all__ = ["main"]
