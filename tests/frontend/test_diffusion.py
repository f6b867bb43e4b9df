"""Diffusion networks: every part against its published parameter count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from presilicon.dtypes import Formats
from presilicon.frontend import diffusion
from presilicon.frontend.network import Builder
from presilicon.graph import Attention, Graph


def _part(write: Callable[[Builder], None]) -> Graph:
    b = Builder(1, Formats())
    write(b)
    return b.graph("part")


def _clip_l(b: Builder) -> None:
    diffusion.clip_text(b, layers=12, hidden=768, heads=12, ffn=3072)


def _clip_g(b: Builder) -> None:
    diffusion.clip_text(b, layers=32, hidden=1280, heads=20, ffn=5120, projection=1280)


def _expert(b: Builder) -> None:
    diffusion.wan_transformer(b, 21 * 45 * 80)


@pytest.mark.parametrize(
    ("write", "parameters"),
    [
        (diffusion.sdxl_unet, 2_567_463_684),  # as counted from the checkpoint
        (diffusion.sdxl_decoder, 49_490_199),  # 49.5 M
        (_clip_l, 123_060_480),
        (_clip_g, 694_659_840),
        (diffusion.umt5_encoder, 5_680_910_336),
        (_expert, 14_288_491_584),
    ],
)
def test_parts_have_the_parameters_of_their_checkpoints(write: Callable[[Builder], None], parameters: int) -> None:
    assert _part(write).parameters == parameters


def test_one_pass_of_the_unet_is_3_38_tmac_and_2_99_without_attention_products() -> None:
    """Counters that hook on layers see 2.98 TMAC a pass at 1024 x 1024; attention's two products are the rest."""
    graph = _part(diffusion.sdxl_unet)
    attention = sum(o.count * o.macs for o in graph if isinstance(o, Attention))
    assert graph.macs == 3_380_618_199_040
    assert graph.macs - attention == pytest.approx(2.98e12, rel=0.005)
    assert sum(o.count for o in graph if isinstance(o, Attention)) == 140


def test_the_decoder_and_an_expert_have_the_macs_of_their_layer_tables() -> None:
    assert _part(diffusion.sdxl_decoder).macs == 5_235_196_297_216
    assert _part(_expert).macs == 3_261_718_296_002_560


def test_a_picture_is_texts_twice_steps_twice_and_one_decoding() -> None:
    network = diffusion.stable_diffusion_xl()
    parts = {write: _part(write) for write in (diffusion.sdxl_unet, diffusion.sdxl_decoder, _clip_l, _clip_g)}
    assert network.parameters == sum(g.parameters for g in parts.values())
    unet, decoder, *texts = (g.macs for g in parts.values())
    assert network.macs_per_sample == pytest.approx(2 * 20 * unet + decoder + 2 * sum(texts), rel=1e-12)


def test_more_steps_read_the_weights_more_often_but_hold_them_once() -> None:
    few, many = (diffusion.stable_diffusion_xl(steps=n).inference(batch=1, formats=Formats()) for n in (1, 21))
    assert many.parameters == pytest.approx(few.parameters, rel=1e-12)
    read = [sum(o.count * o.touched_weight_bytes for o in g if o.name.startswith("unet.")) for g in (few, many)]
    assert read[1] == pytest.approx(21 * read[0], rel=1e-3)  # norms' scales are counted once


def test_a_film_runs_40_passes_over_two_experts() -> None:
    network = diffusion.wan()
    assert network.parameters == 2 * 14_288_491_584 + 5_680_910_336
    expert = [o for o in network.inference(batch=1, formats=Formats()) if o.name == "expert.layer.attention"]
    assert [o.count for o in expert] == [40 * 40]
    assert expert[0].query_tokens == 75_600  # type: ignore[attr-defined]
