"""Neurons of a sparse network that do nothing any more (S3, figure 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.growing.exchange import entries_of
from ...kernels.modules.evolving import Evolving, EvolvingLinear
from ...kernels.products.csr_spmm import csr_linear
from ..dependencies import Channels

Seen = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Dead:
    """Of one layer: weights that do nothing, bool [entries], and inputs that say nothing, [in].

    None where there are no such weights.
    """

    lost: Tensor | None
    closed: Tensor


class Neurons:
    """Which outputs of the evolving layers `paths` are which inputs of which layers.

    What nothing reads is dead: the weights into it are lost, as its cost is zero and so are their
    gradients. What reads nothing is a constant: the weights out of it do what a bias does, and are
    lost once the bias has taken it over.
    """

    def __init__(self, channels: Channels, paths: list[str], device: torch.device) -> None:
        def on(ids: object) -> Tensor:
            return torch.as_tensor(ids).to(device)

        found = {path: channels.lines(path) for path in channels.rows}
        self._lines = {p: (on(two[0]), on(two[1])) for p, two in found.items() if two is not None}
        self._units = {path: on(channels.units(path)) for path in paths if path in self._lines}
        self._count = 1 + max((int(ids.max()) for two in self._lines.values() for ids in two),
                              default=0)  # fmt: skip
        self._device = device
        self._others = [path for path in self._lines if path not in self._units]

    @torch.no_grad()
    def dead(self, layers: Mapping[str, Evolving], seen: Seen) -> dict[str, Dead]:
        """What is dead now, by path; moves constants into biases.

        `seen` has what each layer read in the last batch, ``x``.
        """
        flags = {path: (layer.blind, layer.unread) for path, layer in layers.items()}
        read, written, moving = (self._none() for _ in range(3))
        for path in self._others:
            outs, ins = self._lines[path]
            moving[outs] = True
            read[ins] = True
        for path, units in self._units.items():
            outs, ins = self._lines[path]
            no_inputs, no_readers = flags[path]
            written[units[units >= 0]] = True
            moving[outs[~no_inputs]] = True
            read[ins[~no_readers.view(len(ins), -1).all(1)]] = True
        constant = written & ~moving
        return {path: self._of(path, layers[path], read, constant, seen) for path in self._units}

    def _none(self) -> Tensor:
        return torch.zeros(self._count, dtype=torch.bool, device=self._device)

    def _of(self, path: str, layer: Evolving, read: Tensor, constant: Tensor, seen: Seen) -> Dead:
        units, ins = self._units[path], self._lines[path][1]
        outputs = (units >= 0) & ~read[units]
        closed = constant[ins].repeat_interleave(layer.sizes[1] // len(ins))
        inputs = torch.zeros_like(closed)
        if path in seen and bool(closed.any()):
            inputs = closed & _movable(layer, closed, seen[path]["x"])
            _move(layer, inputs, seen[path]["x"])
        some = bool(outputs.any() | inputs.any())
        return Dead(entries_of(layer.matrix, outputs, inputs) if some else None, closed)


def _movable(layer: Evolving, closed: Tensor, x: Tensor) -> Tensor:
    """Which inputs, bool [in], are zero in all of the batch, or can be part of the bias."""
    if not isinstance(layer, EvolvingLinear):
        places = layer.sizes[1] // x.shape[1]
        zero = (x == 0).transpose(0, 1).flatten(1).all(1)
        return zero.repeat_interleave(places)
    flat = x.reshape(-1, layer.sizes[1])
    value = flat[0]
    return (flat == value).all(0) & (closed if layer.bias is not None else value == 0)


def _move(layer: Evolving, inputs: Tensor, x: Tensor) -> None:
    """Add what the flagged constant inputs give to the bias."""
    if layer.bias is None or not isinstance(layer, EvolvingLinear):
        return
    value = torch.where(inputs, x.reshape(-1, layer.sizes[1])[0], 0).to(layer.bias.dtype)
    crow, columns = layer.matrix.indices32
    layer.bias.add_(csr_linear(crow, columns, layer.values.detach(), value[None])[0])
