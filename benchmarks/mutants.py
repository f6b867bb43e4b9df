"""Mutants of the RTL: one operator of the Verilog changed, all in one model that reads at its start which one to be.

Each changed operator becomes a choice between itself and its mutation, by a number that the model reads from a file. So a
hundred mutants cost one build.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# What an operator becomes. Ternaries swap their branches.
SWAPS = {
    "+": "-",
    "-": "+",
    "&": "|",
    "|": "&",
    "^": "&",
    "==": "!=",
    "!=": "==",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "&&": "||",
    "||": "&&",
    "*": "+",
    "<<": ">>",
    ">>": "<<",
}
_ASSIGN = re.compile(r"^(  assign .+? = )(.+);$")
_BINARY = re.compile(
    r"^(\S+(?: \[[^\]]*\])?|\$signed\([^()]*\)|\{.*?\}) (\+|-|&&|\|\||&|\||\^|==|!=|<=|>=|<<|>>|<|>|\*) (\S+.*)$"
)
_TERNARY = re.compile(r"^(\S+(?: \[[^\]]*\])?) \? (.+) : (.+)$")
_MODULE = re.compile(r"^module (\S+?)[ (]")


@dataclass(frozen=True)
class Mutant:
    """A changed operator: its number, module, line of the Verilog, and the line as it was and became."""

    number: int
    module: str
    line: int
    before: str
    after: str


def sites(verilog: str) -> Iterator[tuple[str, int, str, str, str]]:
    """Lines with an operator that can be changed: (module, line number, left side, right side, mutated right side)."""
    module = ""
    for number, line in enumerate(verilog.splitlines()):
        if match := _MODULE.match(line):
            module = match[1]
        elif match := _ASSIGN.match(line):
            left, right = match.groups()
            if ternary := _TERNARY.match(right):
                condition, yes, no = ternary.groups()
                if yes.count("?") == 0 and no.count("?") == 0 and yes != no:
                    yield module, number, left, right, f"{condition} ? {no} : {yes}"
            elif binary := _BINARY.match(right):
                a, operator, b = binary.groups()
                if not any(f" {other} " in b for other in SWAPS) and "?" not in b:
                    yield module, number, left, right, f"{a} {SWAPS[operator]} {b}"


def mutated(verilog: str, count: int, seed: int, selector: Path, spared: tuple[str, ...] = ()) -> tuple[str, list[Mutant]]:
    """The Verilog with ``count`` choices, drawn evenly over the modules, and the mutants; ``selector``: the file it reads."""
    rng = np.random.default_rng(seed)
    by_module: dict[str, list[tuple[str, int, str, str, str]]] = {}
    for site in sites(verilog):
        if not any(name in site[0] for name in spared):
            by_module.setdefault(site[0], []).append(site)
    for found in by_module.values():
        rng.shuffle(found)
    drawn = []
    while len(drawn) < count and any(by_module.values()):
        for found in by_module.values():
            if found and len(drawn) < count:
                drawn.append(found.pop())
    lines = verilog.splitlines()
    mutants = []
    for number, (module, line, left, right, changed) in enumerate(drawn, 1):
        lines[line] = f"{left}(presilicon_mutants::chosen == {number}) ? ({changed}) : ({right});"
        mutants.append(Mutant(number, module, line, right, changed))
    package = "package presilicon_mutants;\n  int chosen = 0;\nendpackage\n"
    text = "\n".join(lines)
    read = (
        "\n  initial begin : presilicon_choose\n    int file;\n    int number;\n"
        f'    file = $fopen("{selector}", "r");\n    number = 0;\n'
        '    if (file != 0) begin void\'($fscanf(file, "%d", number)); $fclose(file); end\n'
        "    presilicon_mutants::chosen = number;\n  end\n"
    )
    head = text.index("module presilicon_top")
    end = text.index("endmodule", head)
    return package + text[:end] + read + text[end:] + "\n", mutants
