"""Pruned layers as S1 runs them: im2col, then the products that come with the framework.

Scattered zeros go through the vendor's sparse library (MKL on the CPU, cuSPARSE on a GPU) by
torch's CSR and BSR tensors, as the vendor wants them: int32 indices, and on the CPU batches of
blocks that are multiples of 16, without which its product takes a path that is ten to a hundred
times slower. Whole columns that are gone are left out by `index_select` before one dense GEMM (S1,
algorithms 1 and 2). Each layer is a chain of steps: im2col, select, multiply, reshape.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.modules.layers import bias_of, is_convolution, matrix_of
from ...kernels.products.cpu_sparse import CpuSparse
from .stages import Staged, Step

IM2COL = "im2col + GEMM"
"""The dense layer as S1 runs it, whose time is S1's baseline."""

SELECT = "im2col + select + GEMM"
THINNED = "thinned im2col + GEMM"
_LANES = 16


def sparse_path(block: int, device: torch.device) -> str:
    """The executed path of `SparseProduct` in words."""
    library = "cuSPARSE" if device.type == "cuda" else "MKL"
    return f"CSR ({library})" if block == 1 else f"BSR {block} x {block} ({library})"


class OffTheShelf(Staged):
    """A linear layer or a plain two-dimensional convolution by its GEMM view.

    Raises ValueError for other layers, for several groups, and for padding that is not of zeros.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.convolution = is_convolution(module)
        self.bias = bias_of(module)
        if not self.convolution:
            if matrix_of(module) is None:
                raise ValueError(f"{type(module).__name__} has no off-the-shelf form")
            return
        conv: Any = module
        plain = isinstance(conv, nn.Conv2d) and not isinstance(conv.padding, str)
        if not plain or conv.groups != 1 or conv.padding_mode != "zeros":
            raise ValueError(f"{conv} has no off-the-shelf form")
        self.window = (conv.kernel_size, conv.dilation, conv.padding, conv.stride)

    def outputs(self, x: Tensor) -> tuple[int, ...]:
        """Height and width of a convolution's output for the input `x` [n, c, h, w]."""
        walks = zip(x.shape[2:], *self.window, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in walks)

    def columns(self, x: Tensor) -> Tensor:
        """Im2col of all samples, as one matrix [in, n * pixels]."""
        return _beside(F.unfold(x, *self.window))

    def feature_maps(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[out, n * pixels] as the output [n, out, h, w]; `shape` is (n, h, w)."""
        return y.view(len(y), *shape).transpose(0, 1).contiguous()


class GemmLayer(OffTheShelf):
    """One dense GEMM, of all columns or, with a mask, of those that any output keeps.

    `mask` is bool [out, in]. With one it is S1's group-wise execution; the columns are selected as
    rows of the im2col matrix, which lie together in memory (S1, figure 6).
    """

    def __init__(self, module: nn.Module, mask: Tensor | None = None) -> None:
        super().__init__(module)
        matrix = matrix_of(module)
        assert matrix is not None
        if mask is None:
            self.kept, self.weight = None, matrix
        else:
            self.kept = torch.nonzero(mask.any(dim=0)).flatten()
            self.weight = torch.where(mask, matrix, 0).index_select(1, self.kept)

    def steps(self, x: Tensor) -> list[Step]:
        found: list[Step] = [("im2col", self.columns)] if self.convolution else []
        if self.kept is not None:
            found.append(("select", self._selected))
        found.append(("multiply", self._multiplied))
        if self.convolution:
            shape = (len(x), *self.outputs(x))
            found.append(("reshape", lambda y: self.feature_maps(y, shape)))
        return found

    def _selected(self, x: Tensor) -> Tensor:
        assert self.kept is not None
        if self.convolution:
            return x.index_select(0, self.kept)
        rows = x.reshape(-1, x.shape[-1]).index_select(1, self.kept)
        return rows.view(*x.shape[:-1], -1)

    def _multiplied(self, x: Tensor) -> Tensor:
        if not self.convolution:
            return F.linear(x, self.weight, self.bias)
        if self.bias is None:
            return self.weight @ x
        return torch.addmm(self.bias[:, None], self.weight, x)


class ThinnedConv(GemmLayer):
    """A convolution whose im2col copies only the kept positions, entry by entry.

    After Lebedev and Lempitsky (S1's reference 30), whose implementation S1's figure 11 compares.
    """

    def __init__(self, module: nn.Module, mask: Tensor) -> None:
        super().__init__(module, mask)
        if not self.convolution:
            raise ValueError("only convolutions have a thinned im2col")
        self._places: tuple[tuple[int, ...], Tensor] | None = None

    def steps(self, x: Tensor) -> list[Step]:
        _, _, *others = super().steps(x)
        return [("im2col", self._thinned), *others]

    def _thinned(self, x: Tensor) -> Tensor:
        high, wide = self.window[2]
        x = F.pad(x, (wide, wide, high, high))
        found = x.reshape(len(x), -1).index_select(1, self._index(x))
        return _beside(found.view(len(x), self.weight.shape[1], -1))

    def _index(self, x: Tensor) -> Tensor:
        """Where in a padded image each entry of the thinned matrix lies; the last is remembered."""
        shape = tuple(x.shape[1:])
        if self._places is None or self._places[0] != shape:
            assert self.kept is not None
            kernel, dilation, _, stride = self.window
            numbers = torch.arange(x[0].numel(), dtype=torch.float64).view(1, *shape)
            places = F.unfold(numbers, kernel, dilation, 0, stride)[0].long().to(x.device)
            self._places = shape, places.index_select(0, self.kept).flatten()
        return self._places[1]


class SparseProduct(OffTheShelf):
    """The weight as a CSR or BSR tensor of torch, times the columns of all samples at once.

    `mask` is bool [out, in]; `block` is the side of the squares that hold anything, 1 for CSR.
    """

    def __init__(self, module: nn.Module, mask: Tensor, block: int = 1) -> None:
        super().__init__(module)
        matrix = matrix_of(module)
        assert matrix is not None
        stored = CpuSparse.from_dense(torch.where(mask, matrix, 0), block)
        (self.out, self.ins), self.matrix, self.block = stored.shape, stored.matrix, block

    def steps(self, x: Tensor) -> list[Step]:
        shape = (len(x), *self.outputs(x)) if self.convolution else x.shape[:-1]
        return [
            ("im2col" if self.convolution else "reshape", self._as_columns),
            ("multiply", self._multiplied),
            ("reshape", lambda y: self._as_outputs(y, shape)),
        ]

    def _as_columns(self, x: Tensor) -> Tensor:
        """One matrix [in, samples], with rows and samples of zeros where blocks want them."""
        found = self.columns(x) if self.convolution else x.reshape(-1, self.ins).t()
        fill = -found.shape[1] % _LANES if self.block > 1 and x.is_cpu else 0
        return F.pad(found, (0, fill, 0, self.matrix.shape[1] - self.ins)).contiguous()

    def _multiplied(self, columns: Tensor) -> Tensor:
        y = self.matrix @ columns
        if self.bias is not None:
            y[: self.out] += self.bias[:, None]
        return y

    def _as_outputs(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The layer's output of y [out, samples], without what was filled up."""
        y = y[: self.out, : math.prod(shape)]
        if self.convolution:
            return self.feature_maps(y, shape)
        return y.t().reshape(*shape, self.out)


def _beside(samples: Tensor) -> Tensor:
    """The matrices of [n, in, pixels] beside each other: [in, n * pixels]."""
    return samples.transpose(0, 1).reshape(samples.shape[1], -1)
