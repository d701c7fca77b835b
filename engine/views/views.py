"""Pictures and numbers of a model's matrices: what the studio shows of weights and masks.

Big arrays never leave the engine. A view is asked for by its rectangle and its size in pixels and
comes back as bytes. One thread asks at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.cuda.launch import launchable
from ..errors import BadInput
from ..gemm import Gemm
from ..info import LayerInfo
from ..masks import Masks
from ..models.model import Model
from ..patterns import PATTERNS, Pattern
from ..plan import Plan, Rule
from .cache import ByteCache
from .pixels import pixels_of
from .pooling import Matrix, change, densities, limits, limits_at, pooled, to_bytes, zoom
from .preview import DEFAULT, Context, Preview, Previews
from .preview_statistics import PreviewStatistics

VIEWS = ("magnitude", "peak", "weight", "change")
_BUDGET = 512 << 20
_ENTRIES_AT_ONCE = 1 << 16
_EXAMPLE = 12

Json = dict[str, Any]
Arrays = dict[str, np.ndarray]
RuleLike = Rule | Mapping[str, Any] | None
Trained = Mapping[str, Tensor] | None


class Views:
    """Answers what the studio asks of one opened model.

    `rule` is a plan's rule, as an object or as a plan file writes it: the answer is a preview of
    its mask over the weights as loaded, with `context` for what else the plan says. Without one
    the answer shows `masks`, where they have the layer, over the `trained` weights: stored
    parameters by their state-dict names, which must not change under one mapping, or None for the
    weights as loaded.
    """

    def __init__(self, model: Model, budget: int = _BUDGET) -> None:
        self._model = model
        self._cache = ByteCache(budget)
        statistics = PreviewStatistics(model, self._cache)
        self._previews = Previews(self._loaded, statistics.of, self._cache)
        self._trained: Trained = None
        self._generation = 0

    def invalidate(self, layer: str | None = None) -> None:
        """Forget what was made of a layer's weights, or of all."""
        self._cache.forget(layer)

    def tile(
        self,
        layer: str,
        view: str,
        rect: Sequence[int],
        size: Sequence[int],
        rule: RuleLike = None,
        masks: Masks | None = None,
        trained: Trained = None,
        context: Context = DEFAULT,
    ) -> tuple[Json, Arrays]:
        """A picture of a rectangle of W[out, in], and the summary of the layer's mask.

        `rect` is (top, left, bottom, right) in cells and is cut to the matrix; `size` is (height,
        width) in pixels. The arrays `value` and `density` are uint8 [h, w] with h and w at most
        `size` and at most the cells: a pixel is never less than a cell. `value` runs from 0 at
        `lo` to 255 at `hi`: the mean of |w| ("magnitude"), its maximum ("peak"), the signed mean
        ("weight") or the mean of |trained - loaded| ("change") over the pixel's cells, pruned
        ones included. `density` is the share of kept cells, 255 for all.

        `lo` and `hi` leave half a percent of the pixels out at either end, at this zoom over the
        whole layer, so that panning does not change colours; "weight" is symmetric about zero.
        """
        info, gemm = self._layer(layer)
        if view not in VIEWS:
            raise ValueError(f"no view {view!r}; there are {', '.join(VIEWS)}")
        box, rows, columns = pixels_of(rect, size, gemm.shape)
        preview = self._preview(info, gemm, rule, masks, trained, context)
        if rule is not None and view != "change":
            trained = None
        low, high, value = self._cache.fetch(
            (layer, "tile", view, box, tuple(size), self._age(trained)),
            lambda: self._picture(info, gemm, view, rows, columns, trained),
            lambda made: made[2].nbytes,
        )
        if preview.kept is None:
            density = np.full(value.shape, 255, np.uint8)
        else:
            kept = self._kept(layer, preview.kept, None if rule is not None else masks)
            density = to_bytes(densities(kept, rows, columns), 0.0, 1.0)
        meta = {"lo": low, "hi": high, **preview.summary()}
        return meta, {"value": value, "density": density}

    def value(
        self,
        layer: str,
        row: int,
        column: int,
        rule: RuleLike = None,
        masks: Masks | None = None,
        trained: Trained = None,
        context: Context = DEFAULT,
    ) -> Json:
        """``value``, the weight W[row, column], and ``kept``; raises IndexError outside of W."""
        info, gemm = self._layer(layer)
        out, ins = gemm.shape
        if not (0 <= row < out and 0 <= column < ins):
            raise IndexError(f"{layer} is {out}x{ins}, without an entry at {row}, {column}")
        preview = self._preview(info, gemm, rule, masks, trained, context)
        trained = trained if rule is None else None
        value = float(self._matrix(info, gemm, trained)[row, column])
        return {"value": value, "kept": preview.kept is None or bool(preview.kept[row, column])}

    def histogram(
        self,
        layer: str,
        rule: RuleLike = None,
        bins: int = 128,
        masks: Masks | None = None,
        trained: Trained = None,
        context: Context = DEFAULT,
    ) -> tuple[Json, Arrays]:
        """How the weights are distributed, all of them and the kept ones.

        The `bins` (an even number) run from ``lo`` = -max |w| to ``hi`` = max |w|, so that adding
        up mirrored bins gives the distribution of |w|. Arrays: ``edges`` float32 [bins + 1],
        ``all`` and ``kept`` int64 [bins]. ``zeros`` counts weights that are zero in themselves;
        ``mean`` and ``std`` are over all, ``kept_mean`` and ``kept_std`` over the kept.
        """
        info, gemm = self._layer(layer)
        if bins < 2 or bins % 2:
            raise ValueError(f"bins must be an even number, not {bins}")
        preview = self._preview(info, gemm, rule, masks, trained, context)
        matrix = self._matrix(info, gemm, trained if rule is None else None)
        counts = _Counts(matrix, preview.kept, bins)
        edges = np.linspace(-counts.peak, counts.peak, bins + 1, dtype=np.float32)
        (mean, std), (kept_mean, kept_std) = counts.moments(False), counts.moments(True)
        meta = {
            "lo": -counts.peak,
            "hi": counts.peak,
            "zeros": counts.zeros,
            "total": matrix.size,
            "mean": mean,
            "std": std,
            "kept_mean": kept_mean,
            "kept_std": kept_std,
            **preview.summary(),
        }
        return meta, {"edges": edges, "all": counts.all, "kept": counts.kept}

    def _layer(self, path: str) -> tuple[LayerInfo, Gemm]:
        try:
            info = self._model.info.layer(path)
        except KeyError:
            raise BadInput(f"the model has no layer {path}") from None
        if info.gemm is None:
            raise BadInput(f"{path} has no weight matrix: {info.reason}")
        return info, info.gemm

    def _age(self, trained: Trained) -> int:
        """0 for the weights as loaded, else a number that is new for each new mapping."""
        if trained is None:
            return 0
        if trained is not self._trained:
            self._trained, self._generation = trained, self._generation + 1
        return self._generation

    def _loaded(self, layer: str) -> np.ndarray:
        info, gemm = self._layer(layer)
        return self._matrix(info, gemm, None)

    def _matrix(self, info: LayerInfo, gemm: Gemm, trained: Trained) -> np.ndarray:
        """W[out, in] as contiguous float32; the weight's own memory where that is what it is."""
        if trained is not None and info.weight in trained:
            return _plain(gemm.view(trained[info.weight].detach()))
        weight = self._model.state[info.weight].detach()
        made = self._cache.get((info.path, "matrix"))
        if made is None:
            made = _plain(gemm.view(weight))
            if made.ctypes.data != weight.data_ptr():
                self._cache.put((info.path, "matrix"), made, made.nbytes)
        matrix: np.ndarray = made
        return matrix

    def _where_it_lies(self, info: LayerInfo, gemm: Gemm, trained: Trained) -> Matrix:
        """W[out, in] as a tensor if it is on a GPU, which then makes the pixels; else `_matrix`."""
        shown = trained if trained is not None and info.weight in trained else self._model.state
        weight = shown[info.weight].detach()
        return gemm.view(weight) if launchable(weight) else self._matrix(info, gemm, trained)

    def _kept(self, layer: str, kept: np.ndarray, masks: Masks | None) -> Matrix:
        """`kept`, or the layer's mask as a tensor if that is on a GPU."""
        mask = None if masks is None else masks.layers.packed.get(layer)
        return mask.unpack() if mask is not None and launchable(mask.bits) else kept

    def _preview(
        self,
        info: LayerInfo,
        gemm: Gemm,
        rule: RuleLike,
        masks: Masks | None,
        trained: Trained,
        context: Context,
    ) -> Preview:
        if rule is not None:
            return self._previews.of(info, gemm, _as_rule(rule), context)
        mask = None if masks is None else masks.layers.packed.get(info.path)
        if mask is None:
            total = gemm.shape[0] * gemm.shape[1]
            return Preview(None, 0.0, 1.0, total, total, "weight")
        matrix = self._matrix(info, gemm, trained)
        key, age = (info.path, "given"), self._age(trained)
        last = self._cache.get(key)
        if last is None or last[0] is not mask or last[1] != age:
            last = (mask, age, self._previews.given(mask.to("cpu").unpack(), matrix))
            self._cache.put(key, last, 0)
        found: Preview = last[2]
        return found

    def _picture(
        self,
        info: LayerInfo,
        gemm: Gemm,
        view: str,
        rows: np.ndarray,
        columns: np.ndarray,
        trained: Trained,
    ) -> tuple[float, float, np.ndarray]:
        matrix = self._where_it_lies(info, gemm, trained)
        if view == "change":
            matrix = change(matrix, self._loaded(info.path))
        pixels = pooled(matrix, view, rows, columns)
        shown = (rows[-1] - rows[0], columns[-1] - columns[0])
        if shown == gemm.shape:
            low, high = limits(pixels, view)
        else:
            steps = tuple(
                zoom(cells / count) for cells, count in zip(shown, pixels.shape, strict=True)
            )
            low, high = self._cache.fetch(
                (info.path, "limits", view, steps, self._age(trained)),
                lambda: limits_at(matrix, view, steps),
                lambda made: 0,
            )
        return low, high, to_bytes(pixels, low, high)


def examples() -> Arrays:
    """A small mask of every pattern at 50 %, uint8 [12, 12], 1 = kept, made by its own `mask`.

    A pattern of convolution kernels is shown on 4 x 4 kernels of 3 x 3, each where it
    stands for an output and an input channel.
    """
    return {kind: example(PATTERNS.parse(kind)) for kind in PATTERNS.kinds()}


def example(pattern: Pattern) -> np.ndarray:
    """One picture of `examples`."""
    generator = torch.Generator().manual_seed(30)
    sparsity = 0.5 if pattern.fixed_sparsity is None else pattern.fixed_sparsity
    plain = Gemm((_EXAMPLE, _EXAMPLE), head=_EXAMPLE // 4)
    if pattern.whole:
        return _example_of_layers(pattern)
    if not pattern.pictured_on_kernels:
        mask = pattern.mask(torch.rand(plain.shape, generator=generator), sparsity, plain)
        return mask.to(torch.uint8).numpy()
    # Four of nine: what kernel patterns give without whole kernels beside them.
    sparsity, side = 5 / 9, _EXAMPLE // 3
    kernels = Gemm((side, side, 3, 3), (3, 3))
    mask = pattern.mask(torch.rand(kernels.shape, generator=generator), sparsity, kernels)
    laid = mask.view(side, side, 3, 3).transpose(1, 2).reshape(_EXAMPLE, _EXAMPLE)
    return laid.to(torch.uint8).numpy()


def _example_of_layers(pattern: Pattern) -> np.ndarray:
    """Four layers of a model, two of which go."""
    gemm = Gemm((_EXAMPLE // 2, _EXAMPLE // 2))
    scores = torch.ones(gemm.shape)
    stays, goes = pattern.mask(scores, 0.0, gemm), pattern.mask(scores, 1.0, gemm)
    rows = [torch.cat(pair, dim=1) for pair in ((stays, goes), (goes, stays))]
    return torch.cat(rows).to(torch.uint8).numpy()


def _as_rule(rule: Rule | Mapping[str, Any]) -> Rule:
    if isinstance(rule, Rule):
        return rule
    return Plan.from_json({"rules": [dict(rule)]}).rules[0]


def _plain(matrix: Tensor) -> np.ndarray:
    return matrix.cpu().float().contiguous().numpy()


class _Counts:
    """Histogram and moments of W and of its kept entries, in one pass over pieces."""

    def __init__(self, matrix: np.ndarray, kept: np.ndarray | None, bins: int) -> None:
        flat = matrix.ravel()
        flags = None if kept is None else kept.ravel()
        self.peak = float(max(flat.max(), -flat.min())) if flat.size else 0.0
        scale = bins / (2 * self.peak) if self.peak else 0.0
        both = np.zeros(2 * bins, np.int64)
        self.zeros = 0
        self._sums = np.zeros((2, 3))
        for start in range(0, flat.size, _ENTRIES_AT_ONCE):
            part = flat[start : start + _ENTRIES_AT_ONCE].astype(np.float64)
            place = np.minimum(((part + self.peak) * scale).astype(np.int64), bins - 1)
            inside = None if flags is None else flags[start : start + _ENTRIES_AT_ONCE]
            place += bins if inside is None else inside * bins
            both += np.bincount(place, minlength=2 * bins)
            self.zeros += int(np.count_nonzero(part == 0))
            left = part if inside is None else part[inside]
            self._sums += [[x.size, x.sum(), np.dot(x, x)] for x in (part, left)]
        self.kept = both[bins:]
        self.all = both[:bins] + self.kept

    def moments(self, kept: bool) -> tuple[float, float]:
        """Mean and standard deviation of all weights or of the kept ones; zeros of none."""
        count, total, squares = self._sums[int(kept)]
        if not count:
            return 0.0, 0.0
        mean = total / count
        return float(mean), float(max(0.0, squares / count - mean * mean) ** 0.5)
