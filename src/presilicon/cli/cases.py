"""Programs by name on the command line: matmuls, the corpus, random ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from presilicon.errors import InputError

if TYPE_CHECKING:
    from presilicon.compiler.corpus import Case
    from presilicon.template import Core

_GEMM = re.compile(r"gemm(-int4)?:(\d+)x(\d+)x(\d+)")
_LARGEST = 1 << 34


def named_cases(model: str, core: Core, seed: int) -> Iterator[Case]:
    """The cases that a name such as gemm:64x64x64, corpus:softmax or random:100 stands for; InputError where it is none."""
    import numpy as np

    from presilicon.compiler.corpus import CORPUS, gemm_case, prepare, random_case

    if match := _GEMM.fullmatch(model):
        m, k, n = (int(size) for size in match.groups()[1:])
        if not (m and k and n) or m * k * n > _LARGEST:
            raise InputError(
                f"{m} x {k} x {n} is not a matmul to check", where=model, hint=f"sizes from 1, {_LARGEST:,} MACs at most"
            )
        yield gemm_case(core, np.random.default_rng(seed), m, k, n, int4=bool(match[1]))
        return
    kind, _, rest = model.partition(":")
    if kind == "random" and rest.isdecimal() and 0 < int(rest) <= 100_000:
        for number in range(int(rest)):
            yield random_case(core, seed + number)
    elif kind == "corpus" and (names := [name for name in CORPUS if rest in name]):
        for name in names:
            yield prepare(name, core, seed)
    else:
        raise InputError(
            f"{model!r} cannot be checked", hint="gemm:64x64x64, gemm-int4:1x4096x4096, corpus, corpus:softmax or random:100"
        )
