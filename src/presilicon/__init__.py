"""presilicon: design, verify, price and serve an AI inference chip before it exists.

import presilicon
model = presilicon.compile("model.onnx", "core-16x16", calibrate="samples.npz")
y = model.run({"x": x})["y"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from presilicon.flow import compile as compile

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The compiler and all it needs are imported when somebody compiles.
    if name == "compile":
        from presilicon.flow import compile

        return compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
