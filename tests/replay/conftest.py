"""A small model on one chip, deployed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from driving import language_model

from presilicon import chip as chips
from presilicon.replay import Deployment, Limits, deploy


@pytest.fixture(scope="session")
def small() -> Deployment:
    """Llama-3.1-8B on one L40S."""
    return deploy(language_model("llama-3.1-8b"), chips.load("l40s"))


@pytest.fixture(scope="session")
def with_blocks(small: Deployment) -> Callable[..., Deployment]:
    """The same with other limits and so many blocks of cache."""

    def make(blocks: int | None = None, gain: float = 1.0, **limits: Any) -> Deployment:
        layout = small.layout if blocks is None else replace(small.layout, total=blocks, rank=blocks)
        layout = replace(layout, block_tokens=limits.get("block_tokens", layout.block_tokens))
        return replace(small, limits=Limits(**limits), layout=layout, gain=gain)

    return make
