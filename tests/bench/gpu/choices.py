"""Choosing and packing at real sizes against sorting in torch: exact, so any difference fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from secateur.kernels import pyramid, pyramid_cuda
from secateur.kernels.formats.bitmap import Bitmap
from secateur.kernels.formats.bits import unpack_bits
from secateur.kernels.formats.csr import CSR
from secateur.kernels.formats.entries import Entries
from secateur.kernels.selection.block_scores import block_scores
from secateur.kernels.selection.kernel_patterns import choose, learn
from secateur.kernels.selection.packing import pack_n_of_m
from secateur.kernels.selection.permutation_search import larger_sums
from secateur.kernels.selection.radix_select import lowest_of_all
from secateur.kernels.selection.select import keep_n_of_m
from secateur.kernels.selection.topology import evolve
from secateur.tests.bench.gpu.correctness import Found, Make
from secateur.tests.bench.gpu.grouped import DTYPES
from secateur.tests.bench.gpu.setting import Case, Json, Setting, distance, poisoned

_SUMS = 1e-5  # sums in fp32 in another order


def cases(setting: Setting) -> list[Case]:
    return list(_rows())


def _rows() -> Iterator[Case]:
    for precision in ("fp32", "fp16", "bf16"):
        for score in ("given", "magnitude", "product"):
            for packed in (False, True):
                words = f"global cut, {score}, {'bits' if packed else 'bool'}"
                yield _row(words, partial(_lowest, score, packed), precision)
        for n, m in ((2, 4), (4, 8), (3, 16), (7, 32)):
            yield _row(f"{n}:{m} mask", partial(_nm_mask, n, m, 1), precision)
        yield _row("2:4 mask along channels of 3x3", partial(_nm_mask, 2, 4, 9), precision)
        yield _row("2:4 packed", _nm_packed, precision)
        yield _row("kernel patterns", _patterns, precision, 2e-3)
        yield _row("dense to CSR", _to_csr, precision)
        yield _row("dense to bitmap", _to_bitmap, precision)
        yield _row("topology update", _evolved, precision)
        yield _row("block norms", _blocks, precision, _SUMS)
        yield _row("pyramids", _pyramids, precision, _SUMS)
    yield _row("permutation sums", _permutation, "fp32", _SUMS)


def _row(name: str, make: Make, precision: str, limit: float = 0.0) -> Case:
    return Case(name.split(",")[0], f"{name}, {precision}", partial(_check, make, precision, limit))


def _check(make: Make, precision: str, limit: float, setting: Setting, _: float) -> Json:
    with poisoned(), torch.inference_mode():
        error = distance(*make(setting, DTYPES[precision]))
    setting.settle()
    return {"kind": "check", "error": error, "limit": limit}


def _matrix(setting: Setting, dtype: torch.dtype, density: float = 1.0) -> Tensor:
    out, ins = (67, 90) if setting.quick else (4099, 4104)
    weight = setting.randn(out, ins, dtype=dtype)
    return weight if density == 1 else weight * setting.scattered(out, ins, density)


def _lowest(score: str, packed: bool, setting: Setting, dtype: torch.dtype) -> Found:
    """Many tensors of odd sizes, with many equal scores."""
    sizes = (5, 1001, 333) if setting.quick else (5, 20_000_003, 1001, 3_000_000, 77_777)
    tensors = [setting.randn(size).mul_(1e4).round_().div_(1e4).to(dtype) for size in sizes]
    others = [setting.randn(size, dtype=dtype) for size in sizes] if score == "product" else None
    count = round(0.7 * sum(sizes))
    masks = lowest_of_all(tensors, count, others, score=score, keep=True, packed=packed)
    if packed:
        masks = [unpack_bits(mask, size) for mask, size in zip(masks, sizes, strict=True)]
    scores = torch.cat([tensor.float() for tensor in tensors])
    if others is not None:
        scores = scores * torch.cat([other.float() for other in others])
    scores = scores if score == "given" else scores.abs()
    kept = torch.ones(len(scores), dtype=torch.bool, device=setting.device)
    kept[torch.sort(scores, stable=True).indices[:count]] = False
    return masks, list(kept.split(sizes))


def _nm_mask(n: int, m: int, step: int, setting: Setting, dtype: torch.dtype) -> Found:
    scores = _matrix(setting, dtype).abs()
    columns = scores.shape[1] // (m * step) * m * step
    scores = scores[:, :columns].contiguous()
    runs = scores.view(len(scores), -1, m, step).float()
    last = torch.sort(runs, dim=2, stable=True).indices[:, :, m - n :]
    wanted = torch.zeros_like(runs, dtype=torch.bool).scatter_(2, last, True)
    return keep_n_of_m(scores, n, m, step), wanted.view(scores.shape)


def _nm_packed(setting: Setting, dtype: torch.dtype) -> Found:
    weight = _matrix(setting, dtype)
    mask = keep_n_of_m(weight.abs(), 2, 4)
    return pack_n_of_m(weight, 2, 4).to_dense(), weight.masked_fill(~mask, 0)


def _patterns(setting: Setting, dtype: torch.dtype) -> Found:
    """Where two patterns are nearly equal either is right."""
    kernels = setting.randn(1000 if setting.quick else 262_145, 9, dtype=dtype).square()
    library = learn(kernels, 4, 8)
    sums = kernels.double() @ library.double().T
    return choose(kernels, library), library[sums.argmax(dim=1)]


def _to_csr(setting: Setting, dtype: torch.dtype) -> Found:
    weight = _matrix(setting, dtype, 0.2)
    stored = CSR.from_dense(weight)
    places = weight.nonzero()
    counts = (weight != 0).sum(dim=1).cumsum(0)
    return (
        [stored.crow_indices[1:].long(), stored.col_indices.long(), stored.values],
        [counts, places[:, 1], weight[weight != 0]],
    )


def _to_bitmap(setting: Setting, dtype: torch.dtype) -> Found:
    weight = _matrix(setting, dtype, 0.5)
    return Bitmap.from_dense(weight).to_dense(), weight


def _evolved(setting: Setting, dtype: torch.dtype) -> Found:
    """Small entries go, and others come where there was none."""
    weight, threshold = _matrix(setting, dtype, 0.1), 0.5
    come = setting.scattered(*weight.shape, 0.02) & (weight == 0)
    fresh = _matrix(setting, dtype) + 9
    matrix = CSR.from_dense(weight)
    found = evolve(matrix, threshold, Entries.of(fresh, come)).matrix.to_dense()
    stays = weight.masked_fill(weight.float().abs() <= threshold, 0)
    return found, torch.where(come, fresh, stays)


def _blocks(setting: Setting, dtype: torch.dtype) -> Found:
    weight = _matrix(setting, dtype)
    sizes = ((16, 16), (1, 9), (len(weight), 1), (1, weight.shape[1]))
    found = [block_scores(weight, *size).double() for size in sizes]
    return found, [_block_squares(weight.double(), *size) for size in sizes]


def _block_squares(weight: Tensor, height: int, width: int) -> Tensor:
    rows, columns = -weight.shape[0] % height, -weight.shape[1] % width
    padded = torch.nn.functional.pad(weight.square(), (0, columns, 0, rows))
    tall, wide = padded.shape[0] // height, padded.shape[1] // width
    return padded.view(tall, height, wide, width).sum(dim=(1, 3))


def _pyramids(setting: Setting, dtype: torch.dtype) -> Found:
    """A picture of 50 x 40 pixels; the references are the CPU's."""
    weight = _matrix(setting, dtype)
    tall, wide = weight.shape
    rows, columns = pyramid.edges(0, tall, 50), pyramid.edges(0, wide, 40)
    array, kept = weight.float().cpu().numpy(), weight > 0.5
    pairs: list[tuple[Callable[..., Tensor], object]] = [
        (pyramid_cuda.magnitudes, pyramid.magnitudes(array, rows, columns)),
        (pyramid_cuda.peaks, pyramid.peaks(array, rows, columns)),
    ]
    found = [make(weight, rows, columns).cpu() for make, _ in pairs]
    wanted = [torch.from_numpy(each) for _, each in pairs]
    found.append(pyramid_cuda.densities(kept, rows, columns).cpu())
    wanted.append(torch.from_numpy(pyramid.densities(kept.cpu().numpy(), rows, columns)))
    return found, wanted


def _permutation(setting: Setting, _: torch.dtype) -> Found:
    places, channels, rows = (12, 20, 40) if setting.quick else (512, 512, 2048)
    limits, columns = (setting.randn(count, rows).abs() for count in (places, channels))
    exact = torch.stack(
        [torch.maximum(limit.double(), columns.double()).sum(dim=1) for limit in limits]
    )
    return larger_sums(limits, columns), exact
