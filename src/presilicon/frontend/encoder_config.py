"""Configurations of encoders (BERT, ViT, Whisper) handed to the builders of ``frontend.encoder``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from presilicon.frontend.config import MOST_LAYERS, Config

if TYPE_CHECKING:
    from presilicon.frontend.network import Network


def _divided(c: Config, hidden: int, key: str) -> int:
    """The attention heads at ``key``, which divide ``hidden``."""
    heads = c.size(key)
    if hidden % heads:
        c.fail(key, f"a width of {hidden} does not divide into {heads} heads")
    return heads


def bert(c: Config, name: str, source: str, head: Literal["pooler", "span", "none"] = "pooler") -> Network:
    """BERT, RoBERTa and XLM-RoBERTa."""
    from presilicon.frontend import encoder

    hidden, positions = c.size("hidden_size"), c.size("max_position_embeddings")
    return encoder.bert(
        name=name,
        layers=c.size("num_hidden_layers", highest=MOST_LAYERS),
        hidden=hidden,
        ffn=c.size("intermediate_size"),
        heads=_divided(c, hidden, "num_attention_heads"),
        vocabulary=c.size("vocab_size"),
        positions=positions,
        token_types=c.size("type_vocab_size", default=2),
        head=head,
        tokens=min(128, positions),
        source=source,
    )


def _span(c: Config, name: str, source: str) -> Network:
    return bert(c, name, source, "span")


def _masked(c: Config, name: str, source: str) -> Network:
    return bert(c, name, source, "none")


def _roberta(c: Config, name: str, source: str) -> Network:
    return bert(Config({"type_vocab_size": 1, **c.values}, c.where), name, source)


def vit(c: Config, name: str, source: str, classes: int = 0) -> Network:
    """ViT; ``classes`` of a classifier behind it, 0 for none."""
    from presilicon.frontend import encoder

    hidden, patch, image = c.size("hidden_size"), c.size("patch_size", default=16), c.size("image_size", default=224)
    if image % patch:
        c.fail("patch_size", f"patches of {patch} do not divide an image of {image}")
    return encoder.vit(
        name=name,
        layers=c.size("num_hidden_layers", highest=MOST_LAYERS),
        hidden=hidden,
        ffn=c.size("intermediate_size"),
        heads=_divided(c, hidden, "num_attention_heads"),
        patch=patch,
        image=image,
        channels=c.size("num_channels", default=3),
        classes=classes,
        source=source,
    )


def _vit_classifier(c: Config, name: str, source: str) -> Network:
    labels = c.part("id2label")
    return vit(c, name, source, len(labels.values) if labels is not None else c.size("num_labels", default=1000))


def whisper(c: Config, name: str, source: str) -> Network:
    """Whisper; encoder and decoder have the same heads and width."""
    from presilicon.frontend import encoder

    hidden = c.size("d_model")
    heads, ffn = _divided(c, hidden, "encoder_attention_heads"), c.size("encoder_ffn_dim")
    for key, same in (("decoder_attention_heads", heads), ("decoder_ffn_dim", ffn)):
        if c.size(key, default=same) != same:
            c.fail(key, f"{c.size(key)} is not the encoder's {same}", hint="encoders and decoders that differ are not known")
    text = c.size("max_target_positions", default=448)
    return encoder.whisper(
        name=name,
        encoder_layers=c.size("encoder_layers", highest=MOST_LAYERS),
        hidden=hidden,
        heads=heads,
        ffn=ffn,
        decoder_layers=c.size("decoder_layers", highest=MOST_LAYERS),
        vocabulary=c.size("vocab_size"),
        mel_bins=c.size("num_mel_bins", default=80),
        audio_positions=c.size("max_source_positions", default=1500),
        text_positions=text,
        tokens=min(224, text),
        source=source,
    )


ENCODERS: Mapping[str, Callable[[Config, str, str], Network]] = MappingProxyType(
    {
        "BertModel": bert,
        "BertForMaskedLM": _masked,
        "BertForQuestionAnswering": _span,
        "RobertaModel": _roberta,
        "XLMRobertaModel": _roberta,
        "ViTModel": vit,
        "ViTForImageClassification": _vit_classifier,
        "WhisperModel": whisper,
        "WhisperForConditionalGeneration": whisper,
    }
)
"""Architecture -> the function that hands its configuration to a builder."""
