"""Encoders with random weights as lowered models, step by step as the import lowers the real ones."""

import numpy as np

from presilicon.compiler.rowwise import FUNCTIONS
from presilicon.compiler.steps import Attention, Binding, Gather, Lowered, Product, Reduce, Rows, Tensor
from presilicon.compiler.vectors import (
    Column,
    Constant,
    Loop,
    Output,
    Scalar,
    Scalars,
    Stream,
    Sum,
    VectorProgram,
    fused,
    interpolated,
    minus,
    plus,
    product,
    reciprocal_root,
)

GELU = FUNCTIONS["gelu"]
TABLES = (GELU.image()[:1024], GELU.image()[1024:])


def norm(n: int, outputs: tuple[Output, ...], *, added: int = 0) -> VectorProgram:
    """Layer norm of x (plus ``added`` more streams) to fp32 ``y`` and int8 ``q``."""
    x = Stream("x")
    for number in range(added):
        x = plus(x, Stream(f"x{number}"))
    centred = minus(x, Scalar("mean"))
    y = fused(product(minus(x, Scalar("mean")), Scalar("root")), Column("gamma"), Column("beta"))
    written = {"y": y, "q": product(y, Constant(20.0))}
    return VectorProgram(
        phases=(
            Loop(sums=(("total", x),)),
            Scalars((("mean", product(Scalar("total"), Constant(1 / n))),)),
            Loop(sums=(("squares", product(centred, centred)),)),
            Scalars((("root", reciprocal_root(fused(Scalar("squares"), Constant(1 / n), Constant(1e-5)))),)),
            Loop(outputs=tuple((output.name, written[output.name]) for output in outputs)),
        ),
        outputs=outputs,
    )


class Builder:
    """Collects tensors, constants and steps."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.steps: list = []

    def tensor(self, name: str, rows: int, columns: int, dtype: str = "float32", zero_point: int = 0) -> str:
        self.tensors[name] = Tensor(name, rows, columns, dtype, zero_point=zero_point)
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name

    def product(self, name, x, n, *, gelu=False, residual="", dtype="int8", gain=1.0, group=0):
        """A product with its epilogue; the result is tensor ``name``."""
        m, k = self.tensors[x].rows, self.tensors[x].columns
        w = self.constant(f"{name}.w", self.rng.integers(-127, 128, (k, n)).astype(np.int8))
        more = {}
        if group:
            self.constants[w] = self.rng.integers(-8, 8, (k, n)).astype(np.int8)
            of = self.constant(f"{name}.m", self.rng.integers(1, 16, (-(-k // group), n)).astype(np.uint8))
            more = {"multipliers": of, "group": group}
        bias = self.constant(f"{name}.b", self.rng.integers(-999, 999, n).astype(np.int32))
        scale = np.full(n, 0.0003 * gain / np.sqrt(k), np.float32)
        value = product(Sum("bias"), Column("scale"))
        if residual:
            value = plus(value, Stream("residual"))
        if gelu:
            value = interpolated(value, GELU)
        if dtype == "int8":
            value = product(value, Constant(40.0)) if gelu else value
            scale = scale if gelu or residual else scale * np.float32(40.0)
        self.tensor(name, m, n, dtype)
        program = VectorProgram(
            phases=(Loop(outputs=(("y", value),)),), outputs=(Output("y", dtype),), tables=TABLES if gelu else (b"", b"")
        )
        self.steps.append(
            Product(
                name=name,
                program=program,
                streams=(Binding("residual", residual),) if residual else (),
                columns=(Binding("bias", bias), Binding("scale", self.constant(f"{name}.s", scale))),
                outputs=(Binding("y", name),),
                x=x,
                weights=w,
                **more,
            )
        )
        return name

    def norm(self, name, x, *, added=()):
        """A layer norm of x (and what is added to it): fp32 ``name`` and int8 ``name``.q."""
        m, n = self.tensors[x].rows, self.tensors[x].columns
        for which in ("gamma", "beta"):
            self.constant(f"{name}.{which}", self.rng.normal(1.0, 0.2, n).astype(np.float32))
        self.tensor(name, m, n)
        self.tensor(f"{name}.q", m, n, "int8")
        streams = [Binding("x", x)] + [Binding(f"x{i}", one) for i, one in enumerate(added)]
        self.steps.append(
            Rows(
                name=name,
                program=norm(n, (Output("y"), Output("q", "int8")), added=len(added)),
                streams=tuple(streams),
                columns=(Binding("gamma", f"{name}.gamma"), Binding("beta", f"{name}.beta")),
                outputs=(Binding("y", name), Binding("q", f"{name}.q")),
            )
        )
        return name

    def lowered(self, name, inputs, outputs, arguments=None) -> Lowered:
        return Lowered(
            name=name,
            tensors=self.tensors,
            constants=self.constants,
            steps=tuple(self.steps),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            arguments=arguments or {},
        )


def encoder(tokens=128, width=384, heads=12, layers=6, hidden=1536, vocabulary=1000, length=False, seed=0) -> Lowered:
    """An encoder of MiniLM-L6's shape (or another): look-up, post-norm layers, mean over the tokens."""
    b = Builder(seed)
    b.tensor("ids", tokens, 1, "int32")
    b.constant("words", b.rng.normal(0, 1, (vocabulary, width)).astype(np.float32))
    b.tensor("embedded", tokens, width)
    b.steps.append(Gather(name="embedded", table="words", index="ids", out="embedded"))
    x = b.norm("embedding", "embedded")
    dim = width // heads
    for layer in range(layers):
        at = f"layer{layer}"
        b.product(f"{at}.qkv", f"{x}.q", 3 * width)
        b.tensor(f"{at}.heads", tokens, width, "int8")
        b.steps.append(
            Attention(
                name=f"{at}.attention",
                q=f"{at}.qkv",
                k=f"{at}.qkv",
                v=f"{at}.qkv",
                out=f"{at}.heads",
                heads=heads,
                kv_heads=heads,
                dim=dim,
                score_scale=0.003,
                value_scale=0.9,
                k_column=width,
                v_column=2 * width,
                length="length" if length else "",
            )
        )
        b.product(f"{at}.projected", f"{at}.heads", width, residual=x, dtype="float32")
        y = b.norm(f"{at}.norm1", f"{at}.projected")
        b.product(f"{at}.up", f"{y}.q", hidden, gelu=True)
        b.product(f"{at}.down", f"{at}.up", width, residual=y, dtype="float32")
        x = b.norm(f"{at}.norm2", f"{at}.down")
    b.tensor("mean", 1, width)
    b.steps.append(
        Reduce(name="mean", x=x, out="mean", length="length" if length else "", mean_of_length=length, scale=1 / tokens)
    )
    return b.lowered("encoder", ["ids"], ["mean"], {"length": tokens} if length else {})
