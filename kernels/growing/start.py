"""The topology and the weights that a sparse layer begins with (S3, section 3.2.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..formats.csr import CSR
from ..formats.entries import lines_of


def deviation(shape: tuple[int, int], count: int) -> float:
    """The standard deviation of `count` first weights [out, in].

    2 / sqrt((in + out) (1 - sparsity)): Xavier's, larger by the square root of the share
    that is there, so that sums of fewer inputs are as large.
    """
    out, ins = shape
    return 2 / math.sqrt((ins + out) * count / (out * ins))


def fresh(
    shape: tuple[int, int],
    count: int,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> CSR:
    """A matrix [out, in] of exactly `count` weights, drawn from a generator of the CPU.

    Every output gets count / out inputs; where that is no whole number, some outputs, evenly
    spread, get one more. The inputs of an output are cut into as many parts of equal size (to one)
    and one of each is chosen by chance. The weights are normal with `deviation`.

    Raises ValueError where an output would be without inputs, or for more weights than places.
    """
    out, ins = shape
    if not out <= count <= out * ins:
        raise ValueError(f"{count} weights do not give each of {out} outputs 1 to {ins} inputs")
    crow = torch.arange(out + 1) * count // out
    columns = _one_of_each_part(crow, count, ins, generator)
    values = torch.randn(count, generator=generator) * deviation(shape, count)
    return CSR((out, ins), crow.to(torch.int32), columns.to(torch.int32), values.to(dtype))


def _one_of_each_part(crow: Tensor, count: int, ins: int, generator: torch.Generator) -> Tensor:
    rows = lines_of(crow, count)
    parts = crow.diff()[rows]
    part = torch.arange(count) - crow[rows]
    low, high = part * ins // parts, (part + 1) * ins // parts
    chance = torch.rand(count, generator=generator, dtype=torch.float64)
    return low + (chance * (high - low)).long().minimum(high - low - 1)
