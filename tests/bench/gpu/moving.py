"""Packing, pooling and choosing in fp16, which the memory limits, against torch's own ways."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.kernels import pyramid, pyramid_cuda
from secateur.kernels.formats import CSR, Bitmap, Entries
from secateur.kernels.selection.block_scores import block_scores
from secateur.kernels.selection.kernel_patterns import choose, learn
from secateur.kernels.selection.permutation_search import larger_sums
from secateur.kernels.selection.select import keep_n_of_m
from secateur.kernels.selection.topology import evolve
from secateur.tests.bench.gpu.contest import Call, Contest, contest
from secateur.tests.bench.gpu.setting import Case, Setting

_DTYPE = torch.float16
_SUMS = 2e-3  # of torch's sums in fp16
_NEARLY_EQUAL = 2e-3  # patterns and runs of which either is right


def cases(setting: Setting, topic: str) -> list[Case]:
    rows: Mapping[str, Callable[[Setting], Contest]] = {
        "dense to CSR, 80%": _to_csr,
        "dense to bitmap, 50%": _to_bitmap,
        "2:4 mask": _runs,
        "kernel patterns, 3x3": _patterns,
        "norms of 4x4 blocks": _blocks,
        "picture of 512x512 pixels": _picture,
        "topology update, 90%, a tenth of the entries": _topology,
        "permutation sums, 512 places": _permutation,
    }
    return [contest(topic, name, build) for name, build in rows.items()]


def _side(setting: Setting) -> int:
    return 64 if setting.quick else 8192


def _matrix(setting: Setting, density: float) -> Tensor:
    side = _side(setting)
    return setting.randn(side, side, dtype=_DTYPE) * setting.scattered(side, side, density)


def _values(store: Callable[[Tensor], CSR | Bitmap], weight: Tensor) -> Tensor:
    """What a format keeps; that it also knows where is checked in `choices.py`."""
    return store(weight).values


def _one(ours: Call, peers: Mapping[str, Call], tolerance: float, moved: float) -> Contest:
    """A row whose data is larger than any cache; the first peer says what is right."""
    ways = {name: [call] for name, call in peers.items()}
    return Contest([ours], ways, next(iter(peers.values())), tolerance, moved)


def _to_csr(setting: Setting) -> Contest:
    weight = _matrix(setting, 0.2)

    def by_torch() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that such tensors are a beta
            return weight.to_sparse_csr().values()

    kept = int(weight.count_nonzero())
    moved = 2.0 * weight.numel() + 4.0 * kept
    ours = partial(_values, CSR.from_dense, weight)
    return _one(ours, {"to_sparse_csr": by_torch}, 0.0, moved)


def _to_bitmap(setting: Setting) -> Contest:
    weight = _matrix(setting, 0.5)
    moved = 2.0 * weight.numel() + weight.numel() / 8 + 2.0 * int(weight.count_nonzero())
    return _one(
        partial(_values, Bitmap.from_dense, weight),
        {"values alone, w[w != 0]": lambda: weight[weight != 0]},
        0.0,
        moved,
    )


def _runs(setting: Setting) -> Contest:
    scores = _matrix(setting, 1.0).abs()

    def by_torch() -> Tensor:
        runs = scores.view(-1, 4)
        mask = torch.zeros_like(runs, dtype=torch.bool)
        return mask.scatter_(1, runs.topk(2, dim=1).indices, True).view(scores.shape)

    return _one(
        partial(keep_n_of_m, scores, 2, 4),
        {"topk": by_torch},
        _NEARLY_EQUAL,
        3.0 * scores.numel(),
    )


def _patterns(setting: Setting) -> Contest:
    kernels = setting.randn(_side(setting) * _side(setting) // 9, 9, dtype=_DTYPE).square()
    library = learn(kernels, 4, 8)

    def by_torch() -> Tensor:
        return library[(kernels.float() @ library.float().t()).argmax(dim=1)]

    moved = 3.0 * kernels.numel()
    return _one(partial(choose, kernels, library), {"product": by_torch}, _NEARLY_EQUAL, moved)


def _blocks(setting: Setting) -> Contest:
    weight = _matrix(setting, 1.0)

    def by_torch() -> Tensor:
        cut = weight.unflatten(1, (-1, 4)).unflatten(0, (-1, 4))
        return cut.float().square().sum(dim=(1, 3))

    moved = 2.0 * weight.numel() + 4.0 * weight.numel() / 16
    return _one(partial(block_scores, weight, 4, 4), {"view and sum": by_torch}, _SUMS, moved)


def _picture(setting: Setting) -> Contest:
    weight, side = _matrix(setting, 1.0), _side(setting)
    pixels = min(512, side // 2)
    edges = pyramid.edges(0, side, pixels)

    def by_torch() -> Tensor:
        return F.adaptive_avg_pool2d(weight.abs()[None].float(), pixels)[0]

    return _one(
        lambda: pyramid_cuda.magnitudes(weight, edges, edges),
        {"adaptive pooling": by_torch},
        _SUMS,
        2.0 * weight.numel(),
    )


def _topology(setting: Setting) -> Contest:
    """Torch's way is through the dense matrix, as its sparse ones have no such step."""
    weight, threshold = _matrix(setting, 0.1), 0.12
    come = setting.scattered(*weight.shape, 0.01) & (weight == 0)
    fresh = _matrix(setting, 1.0) + 9
    matrix, grown = CSR.from_dense(weight), Entries.of(fresh, come)

    def by_torch() -> Tensor:
        dense = matrix.to_dense()
        dense.masked_fill_(dense.abs() <= threshold, 0)
        dense[grown.rows, grown.columns] = grown.values
        rows, columns = dense.nonzero(as_tuple=True)
        return dense[rows, columns]

    def ours() -> Tensor:
        return evolve(matrix, threshold, grown).matrix.values

    entries, new = len(matrix.values), len(grown.values)
    moved = 2.0 * 6 * entries + 10.0 * entries + 2.0 * 6 * new
    return _one(ours, {"through the dense matrix": by_torch}, 0.0, moved)


def _permutation(setting: Setting) -> Contest:
    places, rows = (12, 40) if setting.quick else (512, 4096)
    limits, columns = (setting.randn(places, rows).abs() for _ in range(2))

    def by_torch() -> Tensor:
        apart = torch.cdist(limits[None], columns[None], p=1)[0]
        return (apart + limits.sum(1, keepdim=True) + columns.sum(1)) / 2

    moved = 8.0 * places * rows + 4.0 * places**2
    found = _one(partial(larger_sums, limits, columns), {"cdist": by_torch}, 1e-4, moved)
    return Contest(
        found.ours, found.peers, found.wanted, found.tolerance, moved, 2.0 * places**2 * rows
    )
