"""Products that read a compressed matrix once for a few samples, against cuBLAS in fp16."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.kernels.products.bitmap import bitmap_linear
from secateur.kernels.products.bitmap_tiles import BitmapTiles
from secateur.kernels.products.ell import ell_linear
from secateur.kernels.products.nm import nm_linear
from secateur.kernels.products.two_four import TwoFour, two_four_linear
from secateur.kernels.selection.packing import pack_n_of_m
from secateur.tests.bench.gpu.contest import Calls, Contest, contest
from secateur.tests.bench.gpu.grouped import TOLERANCES
from secateur.tests.bench.gpu.setting import Case, Setting, trimmed

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008))
BATCHES = (1, 4, 8, 16)
_DTYPE = torch.float16


def _pairs(setting: Setting) -> list[tuple[int, int, int]]:
    shapes = [(48, 128)] if setting.quick else SHAPES
    return [(*shape, batch) for batch in trimmed(BATCHES, setting, 2) for shape in shapes]


def bitmaps(setting: Setting, topic: str, sparsity: float) -> list[Case]:
    return [
        contest(topic, f"{out}x{ins}, batch {batch}", partial(_bitmap, out, ins, batch, sparsity))
        for out, ins, batch in _pairs(setting)
    ]


def _bitmap(out: int, ins: int, batch: int, sparsity: float, setting: Setting) -> Contest:
    weights = _weights(out, ins, 1 - sparsity, setting)
    stored = [BitmapTiles.from_dense(weight) for weight in weights]
    x = setting.randn(batch, ins, dtype=_DTYPE)
    ours: Calls = [partial(bitmap_linear, each, x) for each in stored]
    kept = len(stored[0].values)
    return _contest(ours, weights, x, stored[0].nbytes, 2.0 * batch * kept, {})


def even_rows(setting: Setting, topic: str, sparsity: float) -> list[Case]:
    return [
        contest(topic, f"{out}x{ins}, batch {batch}", partial(_ell, out, ins, batch, sparsity))
        for out, ins, batch in _pairs(setting)
    ]


def _ell(out: int, ins: int, batch: int, sparsity: float, setting: Setting) -> Contest:
    width = max(1, round(ins * (1 - sparsity)))
    index = torch.uint16 if setting.on_gpu else torch.int32
    stored, weights = [], []
    for _ in range(setting.copies(4 * out * width)):
        columns = torch.rand(out, ins, device=setting.device).topk(width).indices.sort().values
        values = setting.randn(out, width, fan=width, dtype=_DTYPE)
        stored.append((columns.to(index), values))
        weights.append(values.new_zeros(out, ins).scatter_(1, columns, values))
    x = setting.randn(batch, ins, dtype=_DTYPE)
    ours: Calls = [partial(ell_linear, *each, x) for each in stored]
    moved = sum(part.nbytes for part in stored[0])
    return _contest(ours, weights, x, moved, 2.0 * batch * out * width, {})


def runs(setting: Setting, topic: str, n: int, m: int) -> list[Case]:
    return [
        contest(topic, f"{out}x{ins}, batch {batch}", partial(_nm, out, ins, batch, n, m))
        for out, ins, batch in _pairs(setting)
    ]


def _nm(out: int, ins: int, batch: int, n: int, m: int, setting: Setting) -> Contest:
    dense = [
        setting.randn(out, ins, fan=ins * n // m, dtype=_DTYPE)
        for _ in range(setting.copies(2 * out * ins * n // m))
    ]
    stored = [pack_n_of_m(weight, n, m) for weight in dense]
    weights = [each.to_dense() for each in stored]
    x = setting.randn(batch, ins, dtype=_DTYPE)
    ours: Calls = [partial(nm_linear, each.values, each.indices, x, n=n, m=m) for each in stored]
    also: dict[str, Calls] = {}
    if (n, m) == (2, 4):
        also["cuSPARSELt"] = [partial(_Vendor(weight), x) for weight in weights]
    moved = stored[0].values.nbytes + stored[0].indices.nbytes
    return _contest(ours, weights, x, moved, 2.0 * batch * stored[0].values.numel(), also)


class _Vendor:
    """The vendor's 2:4 product, packed at the first call, so that a refusal is that call's."""

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._packed = weight, None

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            self._packed = TwoFour.from_dense(self._weight)
        return two_four_linear(self._packed, x)


def _weights(out: int, ins: int, density: float, setting: Setting) -> list[Tensor]:
    """Enough of them that what is kept does not stay in the cache."""
    return [
        (setting.randn(out, ins, fan=ins) * setting.scattered(out, ins, density)).to(_DTYPE)
        for _ in range(setting.copies(round(2 * out * ins * density)))
    ]


def _contest(
    ours: Calls,
    weights: list[Tensor],
    x: Tensor,
    stored: int,
    work: float,
    also: dict[str, Calls],
) -> Contest:
    return Contest(
        ours=ours,
        peers={"cuBLAS": [partial(F.linear, x, weight) for weight in weights]},
        also=also,
        wanted=partial(F.linear, x, weights[0]),
        tolerance=TOLERANCES["fp16"],
        moved=stored + x.nbytes + x.element_size() * len(x) * len(weights[0]),
        work=work,
        rate="fp16",
    )
