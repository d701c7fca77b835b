"""The bundled samples: ``sample:NAME``."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import torch
from torch import nn

from ..errors import BadInput, nearest
from .build import from_module
from .model import Model

_INPUT = (1, 8, 8)
DATA = "sample:digits"
INPUT_TEXT = "image 1×8×8"


def build(name: str) -> nn.Module:
    """The sample's architecture with fresh weights; raises BadInput for an unknown name."""
    from ...resources.samples.models import SAMPLES

    if name not in SAMPLES:
        raise BadInput(f"unknown sample '{name}'{nearest(name, SAMPLES)}")
    return SAMPLES[name]()


def inputs(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Random images in the range of the digits, [batch, 1, 8, 8], the same every time."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, *_INPUT, generator=generator),), {}


def open_sample(name: str) -> Model:
    """Open a bundled sample with its trained weights."""
    from safetensors.torch import load_file

    module = build(name)
    with as_file(files("secateur.resources.samples") / f"{name}.safetensors") as path:
        module.load_state_dict(load_file(path))
    return from_module(
        module,
        address=f"sample:{name}",
        name=name,
        inputs=inputs,
        input_text=INPUT_TEXT,
        data=DATA,
    )
