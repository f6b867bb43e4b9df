"""``presilicon models``: the models known by name, or what one model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import ModelName, as_json, dims
from presilicon.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from presilicon.frontend import Listed
    from presilicon.frontend.language import LanguageModel
    from presilicon.frontend.network import Network


@click.command(name="models", short_help="Models known by name, or what one of them is made of.")
@click.argument("name", type=ModelName(), required=False)
@dims
@as_json
def models(name: str | None, dims: tuple[tuple[str, int], ...], as_json: bool) -> None:
    """List the models known by name; with NAME, what that model is made of.

    \b
    presilicon models                        all of them, the refused ones with the reason
    presilicon models openai/gpt-oss-120b    shapes, parameters, bytes of KV cache per token
    presilicon models --json                 the same for a script

    NAME may also be a directory with a config.json, or an ONNX file (with --dim for its symbolic sizes).
    """
    from presilicon import frontend

    if name is not None:
        entry = _entry(frontend.load(name, dict(dims) or None))
        if as_json:
            print_json("models", {"models": [entry]})
        else:
            _print_one(entry)
        return
    if dims:
        raise click.UsageError("--dim needs the NAME of an ONNX file")
    listed = frontend.catalogue()
    if as_json:
        print_json("models", {"models": [_listed(m) for m in listed]})
    else:
        _print_list(listed)


def _listed(model: Listed) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "architecture": model.architecture,
        "parameters": model.parameters or None,
        "aliases": list(model.aliases),
        "source": model.source,
        "refused": model.reason or None,
    }


def _entry(model: LanguageModel | Network) -> dict[str, Any]:
    """What a model is made of."""
    from presilicon.frontend.language import LanguageModel

    if isinstance(model, LanguageModel):
        return {
            "name": model.name,
            "kind": "language",
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "layers": model.layers,
            "hidden": model.hidden,
            "vocabulary": model.vocabulary,
            "max_tokens": model.max_tokens or None,
            "formats": str(model.default_formats),
            "weight_bytes": model.weight_bytes(model.default_formats),
            "kv_bytes_per_token": model.kv_bytes_per_token(model.default_formats.kv_cache),
            "blocks": [{"repeat": b.repeat, "parts": [_part(p) for p in (b.attention, b.feed_forward)]} for b in model.blocks],
            "source": model.source,
            "note": model.note,
        }
    return {
        "name": model.name,
        "kind": "network",
        "parameters": model.parameters,
        "macs_per_sample": model.macs_per_sample,
        "tokens": model.tokens or None,
        "max_tokens": model.max_tokens or None,
        "sample": model.sample,
        "title": model.title,
        "source": model.source,
    }


def _part(part: Any) -> dict[str, Any]:
    """One part of a block with the sizes that say something (those that are not 0, off or none)."""
    from dataclasses import fields, is_dataclass

    found: dict[str, Any] = {"kind": type(part).__name__}
    for f in fields(part) if is_dataclass(part) else ():
        value = getattr(part, f.name)
        if isinstance(value, int | float | str) and value not in (0, False, "none", ""):
            found[f.name] = value
    return found


def _print_list(listed: tuple[Listed, ...]) -> None:
    from presilicon.units import si

    known = [m for m in listed if not m.reason]
    rows = [(m.name, m.kind, si(m.parameters), ", ".join(_other_names(m))) for m in known]
    print_table(("model", "kind", "parameters", "also called"), rows, right=("parameters",), fold="also called")
    refused = [m for m in listed if m.reason]
    say()
    say(f"{len(known)} models by name; any case, with or without the owner. Others run from their config.json or ONNX file.")
    if refused:
        say()
        say(f"{len(refused)} more are known and refused, as they cannot be described:")
        for reason in dict.fromkeys(m.reason for m in refused):
            say(f"  {reason}: " + ", ".join(m.name for m in refused if m.reason == reason))


def _other_names(model: Listed) -> list[str]:
    """Names that are more than the id without its owner, three at most."""
    short = model.name.rsplit("/", 1)[-1].lower()
    others = [a for a in model.aliases if a.lower() != short and a.rsplit("/", 1)[-1].lower() != short]
    return [*others[:3], "..."] if len(others) > 3 else others


def _print_one(entry: dict[str, Any]) -> None:
    from presilicon.units import si

    say(entry["name"] if entry["kind"] == "language" else f"{entry['name']}: {entry['title']}")
    rows = []
    for key, value in entry.items():
        if key in ("name", "title", "kind", "blocks", "source", "note") or value is None:
            continue
        unit = "B" if "bytes" in key else ""
        large = isinstance(value, int | float) and value >= 100_000
        rows.append((key.replace("_", " "), si(value, unit, digits=4) if large or unit else str(value)))
    print_table(("figure", "value"), rows, right=("value",))
    for block in entry.get("blocks", ()):
        say()
        say(f"{block['repeat']} blocks of")
        for part in block["parts"]:
            sizes = [f"{key} {value}" if value is not True else key for key, value in part.items() if key != "kind"]
            say(f"  {part['kind']}: {', '.join(sizes)}")
    if entry.get("note"):
        say(entry["note"])
    say()
    say(f"source: {entry['source']}")
