"""Changing a running model from one nested level to another (S4, shared-weights training)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...kernels.formats.bits import narrow
from ..levels import index_of

_STRETCH = 1 << 15
"""Places at a time on a CPU: what is made of them stays in its cache."""


@dataclass
class _Step:
    """What one parameter loses from a level to the next: flat places and their values, 1-d."""

    parameter: nn.Parameter
    places: Tensor
    values: Tensor

    @torch.no_grad()
    def write(self, keep: bool) -> int:
        """Write the values, or zeros; returns the bytes written."""
        to = self.parameter
        if self.places.device != to.device or self.values.dtype != to.dtype:
            self.places = self.places.to(to.device)
            self.values = self.values.to(to.device, to.dtype)
        flat = to.view(-1) if to.is_contiguous() else None
        stretch = _STRETCH if to.device.type == "cpu" else len(self.places)
        for start in range(0, len(self.places), stretch):
            part = slice(start, start + stretch)
            places = self.places[part].long()
            values = self.values[part] if keep else torch.zeros_like(self.values[part])
            if flat is None:
                to.put_(places, values)
            else:
                flat.scatter_(0, places, values)
        return self.values.nbytes


class Nested:
    """A module at one of several nested levels, and what it takes to change between them.

    `module` is in eval mode at the loosest level first, and may be moved and cast. `levels` are
    sparsities, rising. Outside of the module only the weights are kept in which levels differ.

    `ranks` are uint8 in the shapes of the parameters that they name: at level k what has a rank
    below k is zero.
    """

    def __init__(
        self, module: nn.Module, levels: Sequence[float], ranks: Mapping[str, Tensor]
    ) -> None:
        self.module = module
        self.levels = tuple(levels)
        self._at = 0
        self._steps: list[list[_Step]] = [[] for _ in self.levels[1:]]
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for name, rank in ranks.items():
            parameter = parameters[name]
            values, flat = parameter.detach().reshape(-1), rank.reshape(-1)
            lying = values != 0
            for index, steps in enumerate(self._steps):
                places = torch.nonzero((flat == index) & lying).reshape(-1)
                if len(places):
                    kept = values[places]
                    steps.append(_Step(parameter, narrow(places, values.numel()), kept))

    @property
    def level(self) -> float:
        """The sparsity of the level that the module is at."""
        return self.levels[self._at]

    def switch(self, level: float) -> int:
        """Bring the module to `level` in place; returns the bytes of weights that were written.

        Only weights in which the two levels differ are written; all others are not touched. Raises
        BadInput for a level that there is not. The weights must not have been trained meanwhile.
        """
        wanted = index_of(self.levels, level, "the module")
        written = 0
        while self._at != wanted:
            looser = wanted < self._at
            self._at += -1 if looser else 1
            for step in self._steps[self._at - (0 if looser else 1)]:
                written += step.write(keep=looser)
        return written


def load_nested(path: str | Path, *, arch: str | None = None) -> Nested:
    """The module of a nested file with all its levels; see `secateur.load` for `arch` and errors.

    A file of one sparsity has one level, at which it stays.
    """
    from .archive import read_stored
    from .exported import filled, known_architecture

    path = Path(path)
    found, about = known_architecture(path, arch)
    module = filled(path, found, about, arch).module
    stored = read_stored(path)
    return Nested(module, stored.levels, stored.ranks)
