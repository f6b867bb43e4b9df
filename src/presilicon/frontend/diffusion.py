"""Pictures and films from text by diffusion: text encoders once, the denoiser every step, the decoder once.

The steps are repeats of the denoiser's operators that share its parameters. Guidance runs the denoiser with and without the
prompt. Nearest-neighbour upsampling and group norms are vector work in passes of their own; shortcuts are added in passing.
"""

from __future__ import annotations

from presilicon.dtypes import Formats
from presilicon.frontend.encoder import pre_norm_layer
from presilicon.frontend.network import Builder, Feature, Network
from presilicon.graph import Graph, Size

_NORM_AND_SILU = 9.0  # operations an element: mean, variance, scale, shift, and x * sigmoid(x)


def _convolve(b: Builder, x: Feature, name: str, channels: int, kernel: int = 3, stride: int = 1) -> Feature:
    return b.conv(x, name, channels, kernel=kernel, stride=stride, padding=kernel // 2, bias=True, norm=False, activation=False)


def _residual(b: Builder, x: Feature, channels: int, *, time: int = 0) -> Feature:
    """Norm, SiLU and 3x3 twice with a shortcut; the step's embedding of ``time`` elements is added in between (0: none)."""
    b.norm("norm1", b.batch * x.elements, 2 * x.channels, ops=_NORM_AND_SILU)
    y = _convolve(b, x, "conv1", channels)
    if time:
        b.linear("time", b.batch, time, channels)
        b.epilogue("time.add", b.batch * y.elements)
    b.norm("norm2", b.batch * y.elements, 2 * channels, ops=_NORM_AND_SILU)
    if x.channels != channels:
        _convolve(b, x, "shortcut", channels, kernel=1)
    return b.add(_convolve(b, y, "conv2", channels), "add", activation=False)


def _upsample(b: Builder, x: Feature, channels: int = 0) -> Feature:
    return _convolve(b, b.upsample(x, "upsample"), "upsample.conv", channels or x.channels)


def _transformer(b: Builder, x: Feature, layers: int, context: int, context_tokens: int) -> None:
    """Layers of attention to the map itself, attention to the text, and a gated feed-forward; heads of 64."""
    n, c, heads = x.pixels, x.channels, x.channels // 64
    rows = b.batch * n
    b.norm("norm", b.batch * x.elements, 2 * c)
    b.linear("in", rows, c, c)
    with b.block("layer", times=layers):
        b.norm("norm1", rows * c, 2 * c, reads=2.0, writes=2.0)
        b.linear("qkv", rows, c, 3 * c, bias=False)
        b.attention("attention", query=n, context=n, heads=heads, head_dim=64)
        b.linear("out", rows, c, c)
        b.norm("norm2", rows * c, 2 * c, reads=2.0, writes=2.0)
        with b.block("cross"):
            b.linear("q", rows, c, c, bias=False)
            b.linear("kv", b.batch * context_tokens, context, 2 * c, bias=False)
            b.attention("attention", query=n, context=context_tokens, heads=heads, head_dim=64)
            b.linear("out", rows, c, c)
        b.norm("norm3", rows * c, 2 * c, reads=2.0, writes=2.0)
        b.linear("ffn1", rows, c, 8 * c)
        b.epilogue("gate", rows * 4 * c, ops=9.0)
        b.linear("ffn2", rows, 4 * c, c)
    b.linear("projection", rows, c, c)
    b.epilogue("add", rows * c)


def clip_text(b: Builder, *, layers: int, hidden: int, heads: int, ffn: int, projection: int = 0) -> None:
    """A CLIP text encoder over 77 tokens of 49,408, causal (transformers/models/clip/modeling_clip.py)."""
    vocabulary, positions = 49408, 77
    rows = b.batch * positions
    b.embedding("embedding", rows, hidden, vocabulary + positions)
    with b.block("layer", times=layers):
        pre_norm_layer(b, positions, hidden, heads, ffn, causal=True)
    b.norm("norm", rows * hidden, 2 * hidden, reads=2.0)
    if projection:
        b.linear("projection", b.batch, hidden, projection, bias=False)


def sdxl_unet(b: Builder, latent: int = 128) -> None:
    """One pass of SDXL's U-Net over a latent of 4 x ``latent`` x ``latent``.

    diffusers' UNet2DConditionModel with the sizes of stable-diffusion-xl-base-1.0: 320, 640 and 1,280 channels; 0, 2 and 10
    transformer layers; two residual blocks a level on the way down, three on the way up; a context of 77 x 2,048.
    """
    width, time, context, tokens = 320, 1280, 2048, 77
    for name, size in (("time", width), ("condition", 1280 + 6 * 256)):  # pooled text and six sizes of 256
        b.linear(f"{name}.embed1", b.batch, size, time)
        b.linear(f"{name}.embed2", b.batch, time, time)
    x = _convolve(b, Feature(4, latent, latent), "in", width)
    skips = [x]
    levels = ((width, 0), (2 * width, 2), (4 * width, 10))
    for level, (channels, layers) in enumerate(levels):
        for i in range(2):
            with b.block(f"down{level}.{i}"):
                x = _residual(b, x, channels, time=time)
                if layers:
                    with b.block("transformer"):
                        _transformer(b, x, layers, context, tokens)
            skips.append(x)
        if level < 2:
            x = _convolve(b, x, f"down{level}.downsample", channels, stride=2)
            skips.append(x)
    with b.block("middle"):
        with b.block("before"):
            x = _residual(b, x, x.channels, time=time)
        with b.block("transformer"):
            _transformer(b, x, 10, context, tokens)
        with b.block("after"):
            x = _residual(b, x, x.channels, time=time)
    b.hold(b.batch * sum(skip.elements for skip in skips))
    for level, (channels, layers) in reversed(tuple(enumerate(levels))):
        for i in range(3):
            with b.block(f"up{level}.{i}"):
                x = _residual(b, Feature(x.channels + skips.pop().channels, x.height, x.width), channels, time=time)
                if layers:
                    with b.block("transformer"):
                        _transformer(b, x, layers, context, tokens)
        if level:
            with b.block(f"up{level}"):
                x = _upsample(b, x)
    b.norm("out.norm", b.batch * x.elements, 2 * x.channels, ops=_NORM_AND_SILU)
    _convolve(b, x, "out", 4)


def sdxl_decoder(b: Builder, latent: int = 128) -> None:
    """SDXL's decoder from a latent to a picture 8 times as wide.

    diffusers' AutoencoderKL with 128, 256, 512 and 512 channels and three residual blocks a level.
    """
    x = _convolve(b, Feature(4, latent, latent), "post_quant", 4, kernel=1)
    x = _convolve(b, x, "in", 512)
    with b.block("middle"):
        with b.block("before"):
            x = _residual(b, x, 512)
        with b.block("attend"):
            _single_head(b, x)
        with b.block("after"):
            x = _residual(b, x, 512)
    for level, channels in enumerate((512, 512, 256, 128)):
        for i in range(3):
            with b.block(f"up{level}.{i}"):
                x = _residual(b, x, channels)
        if level < 3:
            with b.block(f"up{level}"):
                x = _upsample(b, x)
    b.norm("out.norm", b.batch * x.elements, 2 * x.channels, ops=_NORM_AND_SILU)
    _convolve(b, x, "out", 3)


def _single_head(b: Builder, x: Feature) -> None:
    """Attention over a map with one head as wide as its channels."""
    rows = b.batch * x.pixels
    b.norm("norm", rows * x.channels, 2 * x.channels)
    b.linear("qkv", rows, x.channels, 3 * x.channels)
    b.attention("attention", query=x.pixels, context=x.pixels, heads=1, head_dim=x.channels)
    b.linear("out", rows, x.channels, x.channels)
    b.epilogue("add", rows * x.channels)


def stable_diffusion_xl(*, steps: int = 20, latent: int = 128) -> Network:
    """Stable Diffusion XL base as MLPerf runs it: 1024 x 1024, 20 steps with guidance (two passes as one batch).

    Both text encoders read the prompt and the negative prompt once; the decoder runs once. Text encoders, decoder, attention
    and all data between operators stay in 16 bits, as submitters that quantise the U-Net state it.
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats, wide_stream=True)
        with b.copies(2):
            with b.wide(), b.block("clip_l"):
                clip_text(b, layers=12, hidden=768, heads=12, ffn=3072)
            with b.wide(), b.block("clip_g"):
                clip_text(b, layers=32, hidden=1280, heads=20, ffn=5120, projection=1280)
            with b.block("unet", passes=steps):
                sdxl_unet(b, latent)
        with b.block("guide", passes=steps):
            b.vector("step", batch * 4 * latent * latent, reads=3.0, ops=6.0)
        with b.wide(), b.block("decoder"):
            sdxl_decoder(b, latent)
        return b.graph("stable-diffusion-xl")

    return Network("stable-diffusion-xl", f"Stable Diffusion XL base, {8 * latent}x{8 * latent}, {steps} steps with guidance",
                   "stabilityai/stable-diffusion-xl-base-1.0:unet/config.json, vae/config.json; "
                   "huggingface/diffusers:src/diffusers/models; mlcommons/inference:text_to_image/backend_pytorch.py", build,
                   sample="one picture")  # fmt: skip


def umt5_encoder(b: Builder, tokens: int = 512) -> None:
    """The encoder of umT5-XXL, 24 gated layers without biases (Wan-Video/Wan2.2:wan/modules/t5.py)."""
    hidden, heads, ffn, buckets = 4096, 64, 10240, 32
    rows = b.batch * tokens
    b.embedding("embedding", rows, hidden, 256384)
    with b.block("layer", times=24):
        b.norm("norm1", rows * hidden, hidden, reads=2.0, writes=2.0)
        b.linear("qkv", rows, hidden, 3 * hidden, bias=False)
        b.epilogue("position_bias", tokens * tokens * heads, parameters=buckets * heads)
        b.attention("attention", query=tokens, context=tokens, heads=heads, head_dim=hidden // heads)
        b.linear("out", rows, hidden, hidden, bias=False)
        b.norm("norm2", rows * hidden, hidden, reads=2.0, writes=2.0)
        b.linear("ffn1", rows, hidden, 2 * ffn, bias=False)
        b.epilogue("gate", rows * ffn, ops=9.0)
        b.linear("ffn2", rows, ffn, hidden, bias=False)
    b.norm("norm", rows * hidden, hidden, reads=2.0)


def wan_transformer(b: Builder, tokens: int, text_tokens: int = 512) -> None:
    """One pass of a Wan 2.2 A14B expert over ``tokens`` patches (Wan-Video/Wan2.2:wan/modules/model.py).

    40 layers of 5,120: attention to all patches with rotary positions and normed Q and K, attention to the text, and a
    feed-forward of 13,824; the step's embedding scales and shifts each.
    """
    hidden, heads, ffn, patch = 5120, 40, 13824, 64
    rows, text = b.batch * tokens, b.batch * text_tokens
    b.linear("patches", rows, patch, hidden)
    b.linear("text.embed1", text, 4096, hidden)
    b.linear("text.embed2", text, hidden, hidden)
    b.linear("time.embed1", b.batch, 256, hidden)
    b.linear("time.embed2", b.batch, hidden, hidden)
    b.linear("time.projection", b.batch, hidden, 6 * hidden)
    with b.block("layer", times=40):
        b.norm("norm1", rows * hidden, 6 * hidden, reads=2.0, writes=2.0, ops=8.0)  # the six are the step's scales and shifts
        b.linear("qkv", rows, hidden, 3 * hidden, split="output")
        b.norm("qk_norm", rows * 2 * hidden, 2 * hidden, ops=8.0)  # with the rotation of positions
        b.attention("attention", query=tokens, context=tokens, heads=heads, head_dim=hidden // heads)
        b.linear("out", rows, hidden, hidden, split="input")
        b.norm("norm3", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
        with b.block("cross"):
            b.linear("q", rows, hidden, hidden, split="output")
            b.norm("q_norm", rows * hidden, hidden)
            b.linear("kv", text, hidden, 2 * hidden, split="output")
            b.norm("k_norm", text * hidden, hidden)
            b.attention("attention", query=tokens, context=text_tokens, heads=heads, head_dim=hidden // heads)
            b.linear("out", rows, hidden, hidden, split="input")
        b.norm("norm2", rows * hidden, 0, reads=2.0, writes=2.0, ops=8.0)
        b.linear("ffn1", rows, hidden, ffn, split="output")
        b.epilogue("activation", rows * ffn, ops=8.0, split="output")
        b.linear("ffn2", rows, ffn, hidden, split="input")
    b.norm("norm", rows * hidden, 2 * hidden, reads=2.0, ops=8.0)
    b.linear("head", rows, hidden, patch)


def wan(*, steps: int = 20, frames: int = 81, height: int = 720, width: int = 1280) -> Network:
    """Wan 2.2 T2V A14B as MLPerf runs it: 81 frames of 720 x 1280, 20 steps with guidance, each two passes.

    Two experts of 14 billion parameters: one for the noisy steps, one for the rest. Which one runs does not change the work,
    so each is given half of the passes. The decoder from latents to frames, about 0.25 % of the MACs, is left out.
    """
    latent_frames, patches = (frames - 1) // 4 + 1, (height // 16) * (width // 16)

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        with b.copies(2), b.block("text"):
            umt5_encoder(b)
        with b.block("expert", times=2, passes=steps):
            wan_transformer(b, latent_frames * patches)
        with b.block("guide", passes=steps):
            b.vector("step", batch * latent_frames * patches * 64, reads=3.0, ops=6.0)
        return b.graph("wan-2.2-t2v-a14b")

    return Network("wan-2.2-t2v-a14b", f"Wan 2.2 T2V A14B, {frames} frames of {height}x{width}, {steps} steps with guidance",
                   "Wan-Video/Wan2.2:wan/configs/wan_t2v_A14B.py, wan/modules/model.py; "
                   "mlcommons/inference:text_to_video/wan2.2-t2v-14b/inference_config.yaml", build,
                   sample="one film")  # fmt: skip
