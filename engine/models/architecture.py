"""Modules without their weights: what ``--arch``, an address or a configuration names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import BadInput
from .model import Inputs


@dataclass(frozen=True)
class Architecture:
    """A module with fresh weights, how to feed it, and the address of the data it was made for."""

    module: nn.Module
    inputs: Inputs | None = None
    input_text: str = ""
    data: str | None = None


def is_built_in(arch: str) -> bool:
    """Whether building `arch` runs no code but ours: safe where a file names it, not a person."""
    return arch.partition(":")[0] in ("sample", "torchvision", "new")


def build(arch: str) -> Architecture:
    """Build ``torchvision:NAME``, ``sample:NAME``, ``new:…`` or ``package.module:factory``.

    Raises BadInput for anything else.
    """
    from . import new, sample, torchvision

    scheme, _, rest = arch.partition(":")
    if scheme == "torchvision":
        module = torchvision.build(rest)
        return Architecture(module, *torchvision.example(module))
    if scheme == "sample":
        return Architecture(sample.build(rest), sample.inputs, sample.INPUT_TEXT, sample.DATA)
    if scheme == "new":
        return Architecture(new.build(rest), *new.example(rest))
    try:
        module = getattr(importlib.import_module(scheme), rest)()
    except Exception as error:  # the person's own code may raise anything
        raise BadInput(
            f"--arch {arch}: {error}; write torchvision:NAME, sample:NAME or package.module:factory"
        ) from None
    if not isinstance(module, nn.Module):
        raise BadInput(f"--arch {arch} gave {type(module).__name__}, not a torch.nn.Module")
    return Architecture(module, getattr(module, "example_inputs", None))


def from_config(config: dict[str, Any]) -> Architecture:
    """Build what a Hugging Face configuration describes.

    Raises whatever transformers raises for a configuration that it does not know.
    """
    from . import huggingface, transformers_inputs

    module = huggingface.build(config)
    return Architecture(module, *transformers_inputs.example(module))
