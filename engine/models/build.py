"""Putting a Model together from a module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..info import ModelInfo
from .flops import count_flops
from .layers import count_parameters, layer_rows, with_densities
from .model import Inputs, Model


def from_module(
    module: nn.Module,
    *,
    address: str,
    name: str,
    inputs: Inputs | None,
    input_text: str = "",
    data: str | None = None,
    arch: str | None = None,
    config: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Model:
    """Inspect `module` (set to eval mode) and return it as a Model with densities and FLOPs."""
    module.eval()
    rows = layer_rows(module)
    flops: dict[str, int] = {}
    if inputs is not None:
        try:
            flops = count_flops(module, inputs, rows)
        except Exception as error:  # any model code may run here, and a table without FLOPs will do
            reason = str(error).strip().split("\n")[0].split(". ")[0]
            notes = (*notes, f"FLOPs are not known: the example did not run dry ({reason})")
    state = module.state_dict()  # aliases of the loaded weights, whatever the module does later
    counted = with_densities(tuple(rows), lambda name: state[name])
    layers = tuple(replace(row, flops=flops.get(row.path)) for row in counted)
    info = ModelInfo(
        model=address,
        name=name,
        layers=layers,
        params=count_parameters(module),
        bytes=sum(t.numel() * t.element_size() for t in _distinct(state)),
        input=input_text,
        data=data,
        notes=notes,
    )
    return Model(address, info, state, module, inputs, arch, config)


def _distinct(state: dict[str, Any]) -> list[Any]:
    return list({tensor.data_ptr() or id(tensor): tensor for tensor in state.values()}.values())
