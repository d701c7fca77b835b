"""Example inputs of transformers' models, read off their configurations."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from .model import Inputs

_TOKENS = 32
_SAMPLES = 16000  # one second of sound


def example(module: nn.Module) -> tuple[Inputs | None, str]:
    """Inputs of the kinds that the model's main input and its text need, and what they are.

    None where its kind is not known.
    """
    config: Any = module.config
    main = str(getattr(module, "main_input_name", "input_ids"))
    takes = inspect.signature(module.forward).parameters
    shapes: dict[str, tuple[int, ...]] = {}
    if main != "input_ids":
        shape = _shape(main, config)
        if shape is None:
            return None, ""
        shapes[main] = shape
    elif "pixel_values" in takes and not _has_image_tokens(config):
        shape = _image(config)
        if shape is not None:
            shapes["pixel_values"] = shape
    text = config.get_text_config(decoder=True)
    size = int(getattr(text, "vocab_size", None) or 0)
    length = min(_TOKENS, max(getattr(text, "max_position_embeddings", None) or 0, 0) or _TOKENS)
    tokens = []
    if main == "input_ids" or (size and main == "pixel_values" and "input_ids" in takes):
        tokens.append("input_ids")
    if size and config.is_encoder_decoder and "decoder_input_ids" in takes:
        tokens.append("decoder_input_ids")
    end = getattr(text, "eos_token_id", None)

    def make(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        kwargs: dict[str, Any] = {
            name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()
        }
        for name in sorted(tokens):
            ids = torch.randint(size, (batch, length), generator=generator)
            if isinstance(end, int) and 0 < end < size:
                # Some models read what they say of a text off its one end.
                ids[ids == end] = 0
                ids[:, -1] = end
            kwargs[name] = ids
        return (), kwargs

    words = [f"{name} {'×'.join(map(str, shape))}" for name, shape in shapes.items()]
    return make, ", ".join([*words, *(f"{name} {length}" for name in sorted(tokens))])


def _has_image_tokens(config: Any) -> bool:
    """Whether images come as tokens among those of a text; without such it reads text alone."""
    return any(getattr(config, f"image_token_{end}", None) is not None for end in ("id", "index"))


def _shape(name: str, config: Any) -> tuple[int, ...] | None:
    """Shape of one sample of a main input that is no text, or None."""
    mels = getattr(config, "num_mel_bins", None)
    if name == "pixel_values":
        return _image(config)
    if name == "input_values":
        if mels:  # a spectrogram
            return config.max_length, mels
        channels = getattr(config, "audio_channels", None)
        return (channels, _SAMPLES) if channels else (_SAMPLES,)
    if name == "input_features":
        for key in ("input_feat_per_channel", "feature_projection_input_dim"):
            if hasattr(config, key):
                return 100, getattr(config, key)
        return mels or 80, 2 * getattr(config, "max_source_positions", 1500)
    if name == "past_values" and hasattr(config, "num_input_channels"):
        return config.context_length, config.num_input_channels
    return None


def _image(config: Any) -> tuple[int, ...] | None:
    """Channels, height and width; before them the frames of a video."""
    parts = [getattr(config, key, None) for key in ("vision_config", "encoder", "backbone_config")]
    known = [part for part in (config, *parts) if getattr(part, "image_size", None)]
    size = known[0].image_size if known else 224
    high, wide = (size, size) if isinstance(size, int) else tuple(size)
    channels = getattr(known[0] if known else config, "num_channels", 3)
    frames = getattr(config, "num_frames", None)
    return (frames, channels, high, wide) if frames else (channels, high, wide)
