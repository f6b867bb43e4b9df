"""Text from a decoder on the chip, one token after another: its KV cache stays on the chip from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from presilicon.compiler.compiled import Compiled
from presilicon.errors import ModelError
from presilicon.session import Session


class Characters:
    """The vocabulary of printable ASCII: token 0 ends a line, token c - 31 is character c."""

    size = 96

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; characters that have none are left out."""
        return [0 if c == "\n" else ord(c) - 31 for c in text if c == "\n" or " " <= c <= "~"]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join("\n" if token == 0 else chr(token + 31) for token in tokens)


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was chosen, the place of the one before it, and the cycles of the step that gave it (0: not counted)."""

    number: int
    position: int
    cycles: int


def context_of(compiled: Compiled) -> int:
    """Places in the KV cache of a compiled decoder that takes one token at a time; ModelError where the model is none."""
    shapes = {port.name: port for port in compiled.inputs}
    outputs = {port.name: port for port in compiled.outputs}
    ids, position = shapes.get("input_ids"), shapes.get("position_ids")
    if ids is None or position is None or position.role != "position" or not {"logits", "token"} <= set(outputs):
        raise ModelError(
            "is no decoder: it takes " + ", ".join(shapes) + " and gives " + ", ".join(outputs),
            where=compiled.name,
            hint="inputs input_ids and position_ids, outputs logits and token, states past_key_values.*",
        )
    if int(np.prod(ids.shape)) != 1:
        raise ModelError(f"takes {ids.described()} tokens at a time", where=compiled.name, hint="--dim sequence=1")
    (part,) = compiled.chip_parts
    return part.lowered.arguments[position.argument] + 1


class Generator:
    """A decoder on one level. Each `tokens` begins a new text: the program sees no further back than its first place."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.context = context_of(session.compiled)

    def tokens(self, prompt: Sequence[int], *, temperature: float = 0.0, seed: int = 0) -> Iterator[Token]:
        """Tokens after a prompt, up to the end of the context.

        The chip's arg-max where ``temperature`` is 0; above, drawn on the host from the softmax of the chip's logits over it.
        ModelError where the prompt is empty or longer than the context.
        """
        if not 0 < len(prompt) <= self.context:
            raise ModelError(f"the prompt has {len(prompt)} tokens", hint=f"1 to {self.context}")
        draw = np.random.default_rng(seed)
        following = list(prompt)
        for position in range(self.context):
            result = self.session.run({"input_ids": np.array([[following[position]]]), "position_ids": np.array([[position]])})
            if position + 1 < len(prompt):
                continue
            chosen = int(result.outputs["token"].reshape(-1)[0])
            if temperature > 0:
                logits = result.outputs["logits"].reshape(-1).astype(np.float64) / temperature
                share = np.exp(logits - logits.max())
                chosen = int(draw.choice(share.size, p=share / share.sum()))
            following.append(chosen)
            yield Token(chosen, position, result.cycles)
