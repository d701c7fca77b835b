"""Fresh networks, to be trained from scratch: ``new:mlp:…`` and ``new:convnet:…``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from ..new_network import KERNEL, SCHEME, NewNetwork, parse, pooled
from .build import from_module
from .model import Inputs, Model

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
}  # fmt: skip
# Whoever opens such a network has at hand what has its inputs and classes.
_DIGITS = (64, 10)


def build(rest: str) -> nn.Module:
    """What stands behind ``new:``, with weights of a fixed seed; raises BadInput for a fault."""
    network = parse(f"{SCHEME}:{rest}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _mlp(network) if network.kind == "mlp" else _convnet(network)


def example(rest: str) -> tuple[Inputs, str, str | None]:
    """How to feed it, its input in words, and the address of data that fits it, if any."""
    network = parse(f"{SCHEME}:{rest}")
    sizes = "×".join(map(str, network.shape))
    text = f"image {sizes}" if len(network.shape) == 3 else f"{sizes} features"
    return _inputs(network.shape), text, _data(network)


def open_new(rest: str) -> Model:
    """Open what stands behind ``new:``."""
    network = parse(f"{SCHEME}:{rest}")
    inputs, text, data = example(rest)
    return from_module(
        build(rest),
        address=network.address,
        name=network.name,
        inputs=inputs,
        input_text=text,
        data=data,
        notes=("its weights are drawn by chance: it has learned nothing yet",),
    )


def _mlp(network: NewNetwork) -> nn.Module:
    parts: list[tuple[str, nn.Module]] = []
    for number, (out, ins) in enumerate(network.matrices, 1):
        if parts:
            parts.append((f"act{number - 1}", _ACTIVATIONS[network.activation]()))
        parts.append((f"fc{number}", nn.Linear(ins, out)))
    return nn.Sequential(OrderedDict(parts))


def _convnet(network: NewNetwork) -> nn.Module:
    parts: list[tuple[str, nn.Module]] = []
    ins, high, wide = network.shape
    for number, out in enumerate(network.widths[:-1], 1):
        parts.append((f"conv{number}", nn.Conv2d(ins, out, KERNEL, padding=KERNEL // 2)))
        parts.append((f"act{number}", _ACTIVATIONS[network.activation]()))
        if pooled(high, wide) != (high, wide):
            parts.append((f"pool{number}", nn.MaxPool2d(2)))
        ins, (high, wide) = out, pooled(high, wide)
    parts.append(("flatten", nn.Flatten()))
    parts.append(("fc", nn.Linear(ins * high * wide, network.classes)))
    return nn.Sequential(OrderedDict(parts))


def _inputs(shape: tuple[int, ...]) -> Inputs:
    def make(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        return (torch.rand(batch, *shape, generator=generator),), {}

    return make


def _data(network: NewNetwork) -> str | None:
    """The bundled digits where the network takes them: images of 8x8, flat or not."""
    features, classes = _DIGITS
    fits = network.shape in ((features,), (1, 8, 8)) and network.classes == classes
    return "sample:digits" if fits else None
