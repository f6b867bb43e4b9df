"""Small networks with random weights as torch exports them, through the compiler: near ONNX Runtime's fp32, or why not.

Torch and transformers are in no extra of the project (gigabytes); the files are made in an environment of their own:

python -m venv /tmp/torch && /tmp/torch/bin/pip install torch transformers onnx onnxscript
/tmp/torch/bin/python benchmarks/exporters.py --export /tmp/networks
python benchmarks/exporters.py /tmp/networks
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = 12
# What cannot go onto the chip as a whole: positions computed from the ids by whole-number arithmetic.
REFUSED = ("roberta",)


def networks() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Modules with example inputs by name."""
    import torch
    import transformers as t

    ids, mask = torch.randint(5, 90, (1, TOKENS)), torch.ones(1, TOKENS, dtype=torch.int64)
    image = {"pixel_values": torch.randn(1, 3, 32, 32)}
    small = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
             "max_position_embeddings": 64}  # fmt: skip
    decoder = {**small, "use_cache": False}
    shared = {**decoder, "num_key_value_heads": 2}
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for way in ("eager", "sdpa"):
        own = {"attn_implementation": way}
        gpt = t.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, use_cache=False, **own)
        vit = {k: v for k, v in small.items() if k not in ("vocab_size", "max_position_embeddings")}
        found |= {
            f"bert-{way}": (t.BertModel(t.BertConfig(**small, **own)), {"input_ids": ids, "attention_mask": mask}),
            f"gpt2-{way}": (t.GPT2LMHeadModel(gpt), {"input_ids": ids}),
            f"llama-{way}": (t.LlamaForCausalLM(t.LlamaConfig(**shared, **own)), {"input_ids": ids}),
            f"vit-{way}": (
                t.ViTForImageClassification(t.ViTConfig(image_size=32, patch_size=8, num_labels=10, **vit, **own)),
                image,
            ),
        }
    distil = t.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64)
    opt = t.OPTConfig(vocab_size=100, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                      max_position_embeddings=64, word_embed_proj_dim=32, use_cache=False)  # fmt: skip
    resnet = t.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], num_labels=10, layer_type="basic")
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=True)
    return found | {
        "distilbert": (t.DistilBertModel(distil), {"input_ids": ids, "attention_mask": mask}),
        "roberta": (t.RobertaModel(t.RobertaConfig(**small)), {"input_ids": ids, "attention_mask": mask}),
        "qwen2": (t.Qwen2ForCausalLM(t.Qwen2Config(**shared)), {"input_ids": ids}),
        "qwen3": (t.Qwen3ForCausalLM(t.Qwen3Config(**shared, head_dim=8)), {"input_ids": ids}),
        "phi": (t.PhiForCausalLM(t.PhiConfig(**decoder)), {"input_ids": ids}),
        "opt": (t.OPTForCausalLM(opt), {"input_ids": ids}),
        "resnet": (t.ResNetForImageClassification(resnet), image),
        "encoder": (torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), {"src": torch.randn(1, TOKENS, 32)}),
        "lstm": (torch.nn.LSTM(16, 24, batch_first=True), {"input": torch.randn(1, 5, 16)}),
    }


def export(folder: Path) -> None:
    """Writes each network by both of torch's exporters; says which of them fail."""
    import torch

    class First(torch.nn.Module):
        """Takes inputs in order, gives the one output that counts."""

        def __init__(self, module: Any, names: list[str]) -> None:
            super().__init__()
            self.module, self.names = module, names

        def forward(self, *given: Any) -> Any:
            """The logits, the last hidden state, or the first of a tuple."""
            made = self.module(**dict(zip(self.names, given, strict=True)))
            for name in ("logits", "last_hidden_state"):
                if hasattr(made, name):
                    return getattr(made, name)
            return made[0] if isinstance(made, tuple) else made

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, inputs) in networks().items():
        first = First(module.eval(), list(inputs)).eval()
        for dynamo in (False, True):
            path = folder / f"{name}-{'dynamo' if dynamo else 'script'}.onnx"
            more = {"opset_version": 18, "external_data": False} if dynamo else {"opset_version": 17}
            try:
                torch.onnx.export(first, tuple(inputs.values()), path, input_names=list(inputs), output_names=["out"],
                                  dynamo=dynamo, **more)  # fmt: skip
            except Exception as problem:  # torch cannot export every network by every way
                print(f"{path.name}: torch does not export it: {type(problem).__name__}")


def main() -> int:
    """Prints a table of the files in a folder; 1 where one is refused that should not be, or is not near."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--export", action="store_true")
    given = parser.parse_args()
    if given.export:
        export(given.folder)
        return 0
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "compiler"))
    from import_models import cosine, float_outputs, kinds, on_chip

    from presilicon.compiler.calibrate import random_samples
    from presilicon.compiler.importing import Source
    from presilicon.compiler.lower import lower
    from presilicon.errors import ModelError

    failed = 0
    print("| file | nodes | cosine | steps |\n| --- | ---: | ---: | --- |")
    for path in sorted(given.folder.glob("*.onnx")):
        source = Source.file(path)
        raw = source.raw()
        *samples, judged = random_samples(raw, 9, seed=1)
        try:
            model = lower(source, calibration={name: np.stack([s[name] for s in samples]) for name in samples[0]})
        except ModelError as problem:
            failed += not path.name.startswith(REFUSED)
            print(f"| {path.stem} | {len(raw.all_nodes)} | refused | {problem.message.partition(';')[0]} |")
            continue
        found, wanted = on_chip(model, judged), float_outputs(source, judged)
        near = min(cosine(found[name], wanted[name]) for name in found)
        failed += near < 0.99
        steps = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds(model)).items())
        print(f"| {path.stem} | {len(raw.all_nodes)} | {near:.4f} | {steps} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
