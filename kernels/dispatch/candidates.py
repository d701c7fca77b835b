"""The forms of a layer whose weight holds zeros that may run faster than the dense one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..formats.nm import fullest
from ..modules.conv import SparseConv
from ..modules.kernel_pattern import MOST_SETS, PatternConv2d
from ..modules.layers import is_convolution, matrix_of
from ..modules.linear import SparseLinear
from ..modules.reduced import ReducedLayer
from ..products.two_four import refusal

GATHER = "grouped (gather)"
CHANNELS = "grouped (channels)"
OUTPUTS = "grouped (outputs)"
CSR, ELL, BITMAP = "CSR", "ELL", "bitmap"
VENDOR = "2:4 (cuSPARSELt)"
PATTERNS = "kernel patterns"
SPARSE = (SparseLinear, SparseConv, ReducedLayer, PatternConv2d)
"""What the modules made here are."""

Make = Callable[[], nn.Module]

# Layers of fewer entries take the CPU less time than it takes to start a sparse product.
_FEWEST_ON_CPU = 1 << 14
# Entries as a share of the rows and columns in use above which a form loses, by its bytes (8 an
# entry for CSR in fp32 against 4, 6 in half types against 2; 2 and a bit for a bitmap) or as
# measured, where the patches of a convolution have to be made first.
_CSR, _CSR_HALF, _CSR_CONV, _BITMAP, _BLOCKS = 0.4, 0.25, 0.2, 0.8, 0.5
# A constant fan-in: no row is longer than the average by more than this.
_EVEN = 1.05
_SIDES = (32, 16, 8, 4)
_RUNS = (4, 8, 16)


class Candidates(Mapping[str, nn.Module]):
    """Forms of a layer by executed path, each made of its weight when it is looked up.

    So a choice that is known costs one copy of the layer, and what lost is freed.
    """

    def __init__(self, makers: Mapping[str, Make]) -> None:
        self._makers = makers

    def __getitem__(self, path: str) -> nn.Module:
        return self._makers[path]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class _Zeros:
    """Where the entries of a matrix lie: `kept` bool [out, in], and its rows and columns in use."""

    kept: Tensor
    rows: Tensor
    columns: Tensor
    count: int

    @classmethod
    def of(cls, matrix: Tensor) -> _Zeros:
        kept = matrix != 0
        return cls(kept, kept.any(dim=1), kept.any(dim=0), int(kept.count_nonzero()))

    @property
    def density(self) -> float:
        """The share of entries among the rows and columns in use: what skipping those leaves."""
        return self.count / max(1, int(self.rows.sum()) * int(self.columns.sum()))


def candidates(module: nn.Module) -> Candidates:
    """The layer in every sparse form that fits the zeros of its weight, by executed path.

    Only forms that may win: those whose bytes say otherwise on the weight's device are left out.
    """
    matrix = matrix_of(module)
    if matrix is None or matrix.numel() == 0:
        return Candidates({})
    zeros = _Zeros.of(matrix)
    if zeros.count == matrix.numel():
        return Candidates({})
    return Candidates(dict(_offers(module, matrix, zeros)))


def _offers(module: nn.Module, matrix: Tensor, zeros: _Zeros) -> Iterator[tuple[str, Make]]:
    yield from _whole_lines(module, zeros)
    if getattr(module, "groups", 1) != 1:
        return
    if matrix.is_cuda:
        yield from _on_gpu(module, matrix, zeros)
    elif matrix.is_cpu and matrix.numel() >= _FEWEST_ON_CPU:
        yield from _on_cpu(module, matrix, zeros)
    if isinstance(module, nn.Conv2d) and _few_patterns(zeros.kept):
        yield PATTERNS, partial(PatternConv2d.from_dense, module, zeros.kept)


def _whole_lines(module: nn.Module, zeros: _Zeros) -> Iterator[tuple[str, Make]]:
    """Without the columns that are zero for all outputs, the channels, and the outputs."""
    conv: Any = module if is_convolution(module) else None
    places = 1 if conv is None else conv.weight[0, 0].numel()
    one_group = getattr(module, "groups", 1) == 1
    # The CPU takes one group after the other.
    single = conv is None or (places > 1 and (one_group or zeros.kept.is_cuda))
    if single and not bool(zeros.columns.all()):
        yield GATHER, partial(_sparse, module, "grouped")
    if not one_group or not zeros.count:
        return
    channels = zeros.columns.view(-1, places).any(dim=1)
    if not bool(zeros.rows.all()):
        yield OUTPUTS, partial(ReducedLayer.from_dense, module)
    elif conv is not None and not bool(channels.all()):
        yield CHANNELS, partial(ReducedLayer.from_dense, module)


def _on_cpu(module: nn.Module, matrix: Tensor, zeros: _Zeros) -> Iterator[tuple[str, Make]]:
    """CSR stands for ELL, N:M and bitmaps too: the CPU would unpack them to it."""
    if zeros.density <= (_CSR_CONV if is_convolution(module) else _CSR):
        yield CSR, partial(_sparse, module, "csr")
        yield from _blocks(module, zeros)


def _on_gpu(module: nn.Module, matrix: Tensor, zeros: _Zeros) -> Iterator[tuple[str, Make]]:
    conv = is_convolution(module)
    limit = _CSR if matrix.dtype == torch.float32 else _CSR_HALF
    if zeros.density <= (_CSR_CONV if is_convolution(module) else limit):
        counts = zeros.kept.sum(dim=1)
        even = not conv and int(counts.max()) * len(counts) <= _EVEN * zeros.count
        path, form = (ELL, "ell") if even else (CSR, "csr")
        yield path, partial(_sparse, module, form)
        yield from _blocks(module, zeros)
    if not conv and zeros.density <= _BITMAP:
        yield BITMAP, partial(_sparse, module, "bitmap")
    for m in _RUNS:
        n = fullest(matrix, m)
        if 0 < n <= m // 2:
            yield f"{n}:{m}", partial(_sparse, module, "nm", n=n, m=m)
            break
    if refusal(matrix.dtype, matrix.device) is None and 0 < fullest(matrix, 4) <= 2:
        yield VENDOR, partial(_sparse, module, "two_four")


def _blocks(module: nn.Module, zeros: _Zeros) -> Iterator[tuple[str, Make]]:
    """The largest square blocks that the zeros come in: few of them, and those mostly full."""
    out, ins = zeros.kept.shape
    for side in _SIDES:
        if out % side or ins % side:
            continue
        blocks = zeros.kept.view(out // side, side, ins // side, side).any(dim=3).any(dim=1)
        stored = int(blocks.count_nonzero()) * side**2
        if stored <= _BLOCKS * out * ins and stored <= 1.2 * zeros.count:
            yield f"BSR ({side} x {side})", partial(_sparse, module, "bsr", block=side)
            return


def _few_patterns(kept: Tensor) -> bool:
    """Whether the filters keep one of a few patterns each, more than one, of few entries."""
    # Equal rows have equal sums of the same random numbers, added in the same order.
    numbers = torch.rand(kept.shape[1], generator=torch.Generator().manual_seed(0))
    keys = (kept * numbers.to(kept.device)).sum(dim=1)
    return 1 < len(keys.unique()) <= MOST_SETS and int(kept.count_nonzero()) <= 0.5 * kept.numel()


def _sparse(module: nn.Module, form: str, **settings: Any) -> nn.Module:
    kind = SparseConv if is_convolution(module) else SparseLinear
    return kind.from_dense(module, form, **settings)
