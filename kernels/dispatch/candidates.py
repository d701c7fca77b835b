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
from ..products.bitmap import BITS_PAY, reads_bits
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

# A constant fan-in: no row is longer than the average by more than this.
_EVEN = 1.05
_SIDES = (32, 16, 8, 4)
_RUNS = (4, 8, 16)


@dataclass(frozen=True)
class Limits:
    """Which forms are left out unmeasured, by their bytes or as measured.

    All but the first two are entries as a share of the rows and columns in use above which a form
    loses: its bytes are 8 an entry for CSR in fp32 against 4, 6 in half types against 2, 2 and a
    bit for a bitmap; and where the patches of a convolution have to be made first, less pays.
    """

    fewest_on_cpu: int = 1 << 14
    """Linear layers of fewer entries take the CPU less time than starting a sparse product does."""
    fewest_of_conv_on_cpu: int = 1 << 11
    """The same of convolutions, which use an entry for many pixels."""
    csr: float = 0.4
    csr_half: float = 0.25
    csr_conv: float = 0.25
    bitmap: float = 0.8
    blocks: float = 0.5
    runs: float = 0.5
    kernel_patterns: float = 0.5


MAY_WIN = Limits()
"""Only forms that may be faster than dense."""

EVERY = Limits(0, 0, *(1.0,) * 7)
"""Whatever fits the zeros, to show by how much it loses."""


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


def candidates(module: nn.Module, limits: Limits = MAY_WIN) -> Candidates:
    """The layer in the sparse forms that fit the zeros of its weight, by executed path.

    Left out are those that `limits` say will lose on the weight's device.
    """
    matrix = matrix_of(module)
    if matrix is None or matrix.numel() == 0:
        return Candidates({})
    zeros = _Zeros.of(matrix)
    if zeros.count == matrix.numel():
        return Candidates({})
    return Candidates(dict(_offers(module, matrix, zeros, limits)))


def _offers(
    module: nn.Module, matrix: Tensor, zeros: _Zeros, limits: Limits
) -> Iterator[tuple[str, Make]]:
    yield from _whole_lines(module, zeros)
    if getattr(module, "groups", 1) != 1:
        return
    if matrix.is_cuda:
        yield from _on_gpu(module, matrix, zeros, limits)
    elif matrix.is_cpu:
        conv = is_convolution(module)
        fewest = limits.fewest_of_conv_on_cpu if conv else limits.fewest_on_cpu
        if matrix.numel() >= fewest:
            yield from _on_cpu(module, matrix, zeros, limits)
    if isinstance(module, nn.Conv2d) and _few_patterns(zeros.kept, limits):
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


def _on_cpu(
    module: nn.Module, matrix: Tensor, zeros: _Zeros, limits: Limits
) -> Iterator[tuple[str, Make]]:
    """CSR stands for ELL and N:M too, and for bitmaps where the CPU would unpack them to it."""
    conv = is_convolution(module)
    if zeros.density <= (limits.csr_conv if conv else limits.csr):
        yield CSR, partial(_sparse, module, "csr")
        yield from _blocks(module, zeros, limits)
    if not conv and BITS_PAY <= zeros.density <= limits.bitmap and reads_bits(matrix[:1]):
        yield BITMAP, partial(_sparse, module, "bitmap")


def _on_gpu(
    module: nn.Module, matrix: Tensor, zeros: _Zeros, limits: Limits
) -> Iterator[tuple[str, Make]]:
    conv = is_convolution(module)
    limit = limits.csr if matrix.dtype == torch.float32 else limits.csr_half
    if zeros.density <= (limits.csr_conv if conv else limit):
        counts = zeros.kept.sum(dim=1)
        even = not conv and int(counts.max()) * len(counts) <= _EVEN * zeros.count
        path, form = (ELL, "ell") if even else (CSR, "csr")
        yield path, partial(_sparse, module, form)
        yield from _blocks(module, zeros, limits)
    if not conv and zeros.density <= limits.bitmap:
        yield BITMAP, partial(_sparse, module, "bitmap")
    for m in _RUNS:
        n = fullest(matrix, m)
        if 0 < n <= limits.runs * m and n < m:
            yield f"{n}:{m}", partial(_sparse, module, "nm", n=n, m=m)
            break
    if refusal(matrix.dtype, matrix.device) is None and 0 < fullest(matrix, 4) <= 2:
        yield VENDOR, partial(_sparse, module, "two_four")


def _blocks(module: nn.Module, zeros: _Zeros, limits: Limits) -> Iterator[tuple[str, Make]]:
    """The largest square blocks that the zeros come in: few of them, and those mostly full."""
    out, ins = zeros.kept.shape
    for side in _SIDES:
        if out % side or ins % side:
            continue
        blocks = zeros.kept.view(out // side, side, ins // side, side).any(dim=3).any(dim=1)
        stored = int(blocks.count_nonzero()) * side**2
        if stored <= limits.blocks * out * ins and stored <= 1.2 * zeros.count:
            yield f"BSR ({side} x {side})", partial(_sparse, module, "bsr", block=side)
            return


def _few_patterns(kept: Tensor, limits: Limits) -> bool:
    """Whether the filters keep one of a few patterns each, more than one, of few entries."""
    # Equal rows have equal sums of the same random numbers, added in the same order.
    numbers = torch.rand(kept.shape[1], generator=torch.Generator().manual_seed(0))
    keys = (kept * numbers.to(kept.device)).sum(dim=1)
    few = int(kept.count_nonzero()) <= limits.kernel_patterns * kept.numel()
    return few and 1 < len(keys.unique()) <= MOST_SETS


def _sparse(module: nn.Module, form: str, **settings: Any) -> nn.Module:
    kind = SparseConv if is_convolution(module) else SparseLinear
    return kind.from_dense(module, form, **settings)
