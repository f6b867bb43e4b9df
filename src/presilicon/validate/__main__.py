"""``python -m presilicon.validate constants|intervals [DIR]``: what the package's data hold of the measurements of a folder.

``constants`` fits every family and writes ``data/families``; ``intervals`` writes how far measurements lie from estimates.
Both are for a checkout, run in this order after a formula has changed.
"""

import sys

from presilicon.errors import FactsError, InputError, PresiliconError
from presilicon.validate import refit, residuals
from presilicon.validate.facts import folder, tables


def main(arguments: list[str]) -> int:
    """Run one of the two; 2 on bad input."""
    try:
        if not arguments or arguments[0] not in ("constants", "intervals") or len(arguments) > 2:
            raise InputError("say what to write", hint="constants or intervals, and the folder of the facts")
        where = folder(arguments[1] if len(arguments) == 2 else None)
        if where is None:
            raise FactsError("no folder of facts", hint="name it")
        read = tables((), where)
        if arguments[0] == "constants":
            refit.refit(read, lambda text: print(text, file=sys.stderr))
        else:
            residuals.write(read)
    except PresiliconError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
