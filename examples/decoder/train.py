"""Trains the small character-level decoder of this folder; writes ``licences.npz``.

    pip install torch==2.13.0 numpy
    python examples/decoder/train.py --out examples/decoder/licences.npz

The text is the licences in ``/usr/share/common-licenses``, which the Debian package ``base-files`` carries; Apache-2.0 is held
out. The shape is Llama's: RMS norm, rotary positions (halves rotated), grouped-query attention, SwiGLU, tied embeddings.
The seed is fixed, but another number of threads, or another version of torch, ends at other weights of like quality.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LICENCES = Path("/usr/share/common-licenses")
HELD_OUT = "Apache-2.0"
# Token 0 is the end of a line, token c - 31 the printable ASCII character c.
VOCABULARY = 96
WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN = 128, 3, 4, 2, 256
DIM = WIDTH // HEADS
CONTEXT, BATCH, SEED = 256, 16, 1
SAMPLES = 16
PEAK_RATE, WARM_UP, DROPOUT, SMOOTHED = 4e-3, 60, 0.1, 0.1
ROPE_BASE, EPSILON = 10000.0, 1e-5


def tokens(text: str) -> Tensor:
    """Token ids of a text; characters beyond printable ASCII are left out."""
    return torch.tensor([0 if c == "\n" else ord(c) - 31 for c in text if c == "\n" or " " <= c <= "~"])


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(..., WIDTH) to the same."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


class Layer(nn.Module):
    """One decoder layer; names are those of Hugging Face's Llama."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm, self.post_norm = Norm(), Norm()
        self.q = nn.Linear(WIDTH, HEADS * DIM, bias=False)
        self.k = nn.Linear(WIDTH, KV_HEADS * DIM, bias=False)
        self.v = nn.Linear(WIDTH, KV_HEADS * DIM, bias=False)
        self.o = nn.Linear(HEADS * DIM, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, tokens, WIDTH) to the same; ``cos`` and ``sin`` are (tokens, DIM)."""
        batch, length, _ = x.shape

        def rotate(t: Tensor) -> Tensor:
            low, high = t.chunk(2, dim=-1)
            return t * cos + torch.cat((-high, low), dim=-1) * sin

        h = self.input_norm(x)
        q = rotate(self.q(h).view(batch, length, HEADS, DIM).transpose(1, 2))
        k = rotate(self.k(h).view(batch, length, KV_HEADS, DIM).transpose(1, 2))
        v = self.v(h).view(batch, length, KV_HEADS, DIM).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + functional.dropout(self.o(mixed.transpose(1, 2).reshape(batch, length, -1)), DROPOUT, self.training)
        h = self.post_norm(x)
        return x + functional.dropout(self.down(functional.silu(self.gate(h)) * self.up(h)), DROPOUT, self.training)


class Decoder(nn.Module):
    """The whole model: token ids (batch, tokens) to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()
        nn.init.normal_(self.embedding.weight, std=0.02)
        for layer in self.layers:
            for linear in (layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down):
                nn.init.normal_(linear.weight, std=0.05)
        angles = torch.arange(CONTEXT)[:, None] * ROPE_BASE ** -(torch.arange(0, DIM, 2) / DIM)[None, :]
        self.register_buffer("cos", torch.cat((angles.cos(), angles.cos()), dim=1), persistent=False)
        self.register_buffer("sin", torch.cat((angles.sin(), angles.sin()), dim=1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, tokens, VOCABULARY)."""
        x, length = self.embedding(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return self.norm(x) @ self.embedding.weight.T


def loss_of(model: Decoder, ids: Tensor) -> float:
    """Mean negative log-likelihood (nats a token) over windows of CONTEXT tokens."""
    model.eval()
    with torch.no_grad():
        whole = ids[: (len(ids) - 1) // CONTEXT * CONTEXT + 1]
        x, y = whole[:-1].view(-1, CONTEXT), whole[1:].view(-1, CONTEXT)
        found = float(functional.cross_entropy(model(x).flatten(0, 1), y.flatten()))
    model.train()
    return found


def checkpoint_name(name: str) -> str:
    """A parameter's name in Llama's checkpoints."""
    part = name.split(".")
    if part[0] != "layers":
        return "model.embed_tokens.weight" if part[0] == "embedding" else "model.norm.weight"
    kind = part[2]
    inside = {"input_norm": "input_layernorm", "post_norm": "post_attention_layernorm"}.get(kind)
    inside = inside or (f"self_attn.{kind}_proj" if kind in "qkvo" else f"mlp.{kind}_proj")
    return f"model.layers.{part[1]}.{inside}.weight"


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    files = [f for f in sorted(LICENCES.iterdir()) if not f.is_symlink()]
    texts = {f.name: tokens(f.read_text(encoding="utf-8", errors="replace")) for f in files}
    held_out = texts.pop(HELD_OUT)
    text = torch.cat(list(texts.values()))
    model = Decoder()
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters, {len(text)} tokens of {', '.join(texts)}; held out {HELD_OUT}: {len(held_out)}", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * min(1.0, step / arguments.steps)))),
    )
    for step in range(arguments.steps):
        starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,))
        windows = torch.stack([text[s : s + CONTEXT + 1] for s in starts.tolist()])
        loss = functional.cross_entropy(
            model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten(), label_smoothing=SMOOTHED
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, held out {loss_of(model, held_out):.3f}", flush=True)
    starts = np.linspace(0, len(text) - CONTEXT, SAMPLES).astype(int)
    np.savez(
        arguments.out,
        **{checkpoint_name(name): p.detach().numpy().astype(np.float16) for name, p in model.named_parameters()},
        # What the shapes do not say.
        heads=HEADS,
        rope_base=ROPE_BASE,
        epsilon=EPSILON,
        context=CONTEXT,
        # Text that was trained on, to calibrate with, and text that was not, to judge with.
        samples=np.stack([text[start : start + CONTEXT].numpy() for start in starts]).astype(np.uint8),
        held_out=held_out.numpy().astype(np.uint8),
    )


if __name__ == "__main__":
    main()
