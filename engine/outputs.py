"""A model's outputs as named tensors, and how two sets of them differ."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ABSOLUTE = 1e-4
"""How far an output may be off, for outputs up to 10."""

RELATIVE = 1e-3
"""How far all outputs together may be off, so that tiny outputs are not all called equal."""

_HIGHEST = sys.float_info.max


class Mismatch(Exception):
    """A changed or exported model does not compute what it should: a fault of ours."""


def named_tensors(output: Any) -> dict[str, Tensor]:
    """Every tensor in what a model returned, by names such as ``logits`` or ``output.0``.

    A single tensor is ``output``. Fields of a mapping (as transformers' models return) keep their
    names. What is no tensor, such as a cache, is left out.
    """
    if isinstance(output, Tensor):
        return {"output": output}
    if isinstance(output, Mapping):
        return dict(_walk("", output))
    return dict(_walk("output", output))


def _walk(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _walk(f"{name}.{key}" if name else str(key), inner)


@dataclass(frozen=True)
class OutputDifference:
    """Outputs against the expected ones, over all tensors.

    `max_difference` is absolute. `relative` is the norm of the difference over the norm of what is
    expected. `largest` is the largest expected absolute value. `tolerance` is what
    `max_difference` may be: 1e-4 for outputs up to 10, and 1e-5 of the largest above; for half
    precision four units in the last place of the largest, where that is more. A NaN or infinity on
    one side alone counts as the largest number that there is, so that all fields are finite.
    """

    max_difference: float
    relative: float
    largest: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether no output is off by more than the tolerance, nor all together by 1e-3."""
        half = self.tolerance > max(tolerance_for(self.largest), 0.0)
        return self.max_difference <= self.tolerance and (half or self.relative <= RELATIVE)


def compare_outputs(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> OutputDifference:
    """Compare outputs of the same names and shapes; raises ValueError where these differ.

    An infinity or NaN where the other side has the same counts as no difference.
    """
    if list(expected) != list(found):
        raise ValueError(f"outputs {', '.join(found)} instead of {', '.join(expected)}")
    worst = norm = off = largest = precision = 0.0
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            seen, wanted = tuple(found[name].shape), tuple(tensor.shape)
            raise ValueError(f"output {name} has shape {seen} instead of {wanted}")
        if tensor.is_floating_point():
            precision = max(precision, torch.finfo(tensor.dtype).eps)
        a, b = tensor.double(), found[name].double()
        same = (a == b) | (a.isnan() & b.isnan())
        gap = torch.where(same, 0.0, (a - b).abs().nan_to_num(nan=_HIGHEST))
        finite = a.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if gap.numel():
            worst = max(worst, float(gap.max()))
            largest = max(largest, float(finite.abs().max()))
            off += float(gap.square().sum())
            norm += float(finite.square().sum())
    relative = min((off / norm) ** 0.5 if norm else (_HIGHEST if off else 0.0), _HIGHEST)
    half = 4 * precision * largest if precision > 1e-6 else 0.0
    return OutputDifference(worst, relative, largest, max(tolerance_for(largest), half))


def tolerance_for(largest: float) -> float:
    """What an output may be off by, where the largest is `largest`."""
    return ABSOLUTE * max(1.0, largest / 10)
