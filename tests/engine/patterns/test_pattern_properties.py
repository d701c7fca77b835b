"""Every pattern with any settings on any layer, against checkers of their own.

A checker knows a pattern's definition (MISSION's table) and none of its code: it numbers the units
of W entry by entry, in NumPy. A pattern without one fails here.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo
from secateur.engine.patterns import PATTERNS, Pattern

Array = np.ndarray[Any, Any]

# What a setting does beyond the layout of zeros is tested with what does it.
ELSEWHERE = {"permute"}


# ----- the units of W, numbered ----------------------------------------------------------------


def places(gemm: Gemm) -> tuple[Array, Array, Array]:
    """Row, input channel and kernel position of every entry of W[out, in]."""
    out, ins = gemm.shape
    rows, columns = np.divmod(np.arange(out * ins).reshape(out, ins), ins)
    return rows, columns // gemm.taps, columns % gemm.taps


def of_element(pattern: Any, gemm: Gemm) -> Array:
    return np.arange(np.prod(gemm.shape)).reshape(gemm.shape)


def of_block(pattern: Any, gemm: Gemm) -> Array:
    rows, channels, taps = places(gemm)
    columns = channels * gemm.taps + taps
    return rows // pattern.height * 10_000 + columns // pattern.width


def of_column(pattern: Any, gemm: Gemm) -> Array:
    _, channels, taps = places(gemm)
    return channels * gemm.taps + taps


def of_row(pattern: Any, gemm: Gemm) -> Array:
    return places(gemm)[0]


def of_channel(pattern: Any, gemm: Gemm) -> Array:
    return places(gemm)[1]


def of_head(pattern: Any, gemm: Gemm) -> Array:
    return places(gemm)[1] // gemm.head


def of_layer(pattern: Any, gemm: Gemm) -> Array:
    return np.zeros(gemm.shape, dtype=int)


def check_units(units: Array, scores: Array, kept: Array, sparsity: float) -> None:
    """Whole units, as many as asked to the nearest, and none that scores above a kept one.

    The best of several units stays, however much is asked.
    """
    _, labels = np.unique(units, return_inverse=True)
    labels = labels.reshape(-1)
    sizes = np.bincount(labels)
    left = np.bincount(labels, weights=kept.reshape(-1))
    assert set(np.unique(left / sizes)) <= {0.0, 1.0}, "a unit was cut in two"
    means = np.bincount(labels, weights=scores.reshape(-1)) / sizes
    alive = left > 0
    missed = sparsity * kept.size - (~kept).sum()
    all_it_may = alive.sum() == 1 and missed > 0
    assert all_it_may or abs(missed) <= sizes.max() / 2 + 1e-6
    if alive.any() and not alive.all():
        slack = 1e-5 * np.abs(means).max()  # sums in another order
        assert means[~alive].max() <= means[alive].min() + slack
    equal = np.flatnonzero(means == means[0])
    if len(equal) == len(means) and len(set(sizes)) == 1:
        assert (np.diff(alive.astype(int)) >= 0).all(), "ties go by index"


def by_units(number: Callable[[Any, Gemm], Array], leaves_some: bool = True) -> Checker:
    def check(pattern: Any, gemm: Gemm, scores: Array, kept: Array, sparsity: float) -> None:
        check_units(number(pattern, gemm), scores, kept, sparsity)
        assert kept.any() or not leaves_some

    return check


# ----- patterns that choose inside runs and kernels --------------------------------------------


def best_of(run: Array, count: int) -> set[int]:
    """The places of the `count` highest entries; among equals the later ones."""
    return {int(i) for i in sorted(range(len(run)), key=lambda i: (run[i], i))[len(run) - count :]}


def check_runs(lanes: Iterator[tuple[Array, Array]], length: int, kept_of: Any) -> None:
    for scores, kept in lanes:
        for start in range(0, len(scores), length):
            run, flags = scores[start : start + length], kept[start : start + length]
            assert {int(i) for i in np.flatnonzero(flags)} == best_of(run, kept_of(len(run)))


def check_vector(pattern: Any, gemm: Gemm, scores: Array, kept: Array, sparsity: float) -> None:
    def kept_of(size: int) -> int:
        return max(size - round(sparsity * size), 1 if size == pattern.length else 0)

    check_runs(zip(scores, kept, strict=True), pattern.length, kept_of)


def check_nm(pattern: Any, gemm: Gemm, scores: Array, kept: Array, sparsity: float) -> None:
    if pattern.order == "flattened":
        lanes = zip(scores, kept, strict=True)
    else:
        # The same kernel position of consecutive input channels.
        step = gemm.taps
        lanes = (
            (row[tap::step], flags[tap::step])
            for row, flags in zip(scores, kept, strict=True)
            for tap in range(step)
        )
    check_runs(lanes, pattern.m, lambda size: min(size, pattern.n))


def library_of(pattern: Any, kernels: Array) -> tuple[list[tuple[int, ...]], Array]:
    """The patterns that most kernels choose for themselves, and what each keeps by its best one."""
    natural = Counter(tuple(sorted(best_of(kernel, pattern.entries))) for kernel in kernels)
    library = sorted(natural, key=lambda entry: (-natural[entry], entry))[: pattern.library]
    sums = np.stack([kernels[:, entry].sum(axis=1) for entry in library])
    return library, sums.max(axis=0)


def check_kernel(pattern: Any, gemm: Gemm, scores: Array, kept: Array, sparsity: float) -> None:
    kernels, flags = scores.reshape(-1, gemm.taps), kept.reshape(-1, gemm.taps)
    library, best = library_of(pattern, kernels)
    counts = flags.sum(axis=1)
    assert set(counts) <= {0, pattern.entries, gemm.taps}
    assert not ({0, gemm.taps} <= set(counts))
    for kernel, kept_here, most in zip(kernels, flags, best, strict=True):
        if kept_here.sum() == pattern.entries:
            assert tuple(np.flatnonzero(kept_here)) in library
            assert kernel[kept_here].sum() == pytest.approx(most, rel=1e-5, abs=1e-6)
    gone, whole = counts == 0, counts == gemm.taps
    # Kernels lose entries by patterns until all have, and then all that patterns have left.
    by_pattern = gemm.taps - pattern.entries
    step = by_pattern if sparsity * kept.size <= len(kernels) * by_pattern else pattern.entries
    missed = sparsity * kept.size - (~kept).sum()
    all_it_may = (~gone).sum() == 1 and missed > 0
    assert all_it_may or abs(missed) <= step / 2 + 0.5 + 1e-6
    assert kept.any()
    slack = 1e-5 * np.abs(kernels.sum(axis=1)).max()
    if gone.any() and not gone.all():
        assert best[gone].max() <= best[~gone].min() + slack
    lost = kernels.sum(axis=1) - best
    if whole.any() and not whole.all():
        assert lost[~whole].max() <= lost[whole].min() + slack


Checker = Callable[[Any, Gemm, Array, Array, float], None]

CHECKERS: dict[str, Checker] = {
    "element": by_units(of_element),
    "vector": check_vector,
    "nm": check_nm,
    "block": by_units(of_block),
    "group": by_units(of_column),
    "column": by_units(of_column),
    "row": by_units(of_row),
    "filter": by_units(of_row),
    "channel": by_units(of_channel),
    "kernel": check_kernel,
    "head": by_units(of_head),
    "layer": by_units(of_layer, leaves_some=False),
}


# ----- what is drawn -----------------------------------------------------------------------------


CONVOLUTIONS = ("plain", "grouped", "depthwise", "transposed")
LAYERS = {"head": ("heads",), "kernel": CONVOLUTIONS}


@st.composite
def gemms(draw: st.DrawFn, pattern: str) -> Gemm:
    """A matrix, or a convolution of any kind, with few enough weights for checks by loops."""
    kind = draw(st.sampled_from(LAYERS.get(pattern, ("matrix", "heads", *CONVOLUTIONS))))
    if kind in ("matrix", "heads"):
        out, ins = draw(st.integers(1, 20)), draw(st.integers(1, 40))
        heads = [size for size in range(1, ins + 1) if ins % size == 0]
        return Gemm((out, ins), head=draw(st.sampled_from(heads)) if kind == "heads" else 0)
    dims = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 4 if dims < 3 else 2)) for _ in range(dims))
    outs, ins = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    if kind == "depthwise":
        return Gemm((outs * ins, 1, *kernel), kernel, ins)
    groups = draw(st.integers(1, 3)) if kind != "plain" else 1
    if kind == "transposed":
        return Gemm((ins * groups, outs, *kernel), kernel, groups, transposed=True)
    return Gemm((outs * groups, ins, *kernel), kernel, groups)


def row_of(gemm: Gemm) -> LayerInfo:
    size = gemm.stored_numel
    row = LayerInfo("layer", "Conv", "layer.weight", gemm.stored, size, "float32", gemm)
    return replace(row, branch=True, prunable=True)


@st.composite
def patterns(draw: st.DrawFn, kind: str) -> Pattern:
    """A pattern with any of its settings, small ones as a rule, so that they fit small layers."""
    given: dict[str, Any] = {"kind": kind}
    for field in PATTERNS.kinds()[kind].fields():
        if field.name in ELSEWHERE:
            continue
        if field.choices:
            given[field.name] = draw(st.sampled_from(field.choices))
        elif field.type is bool:
            given[field.name] = draw(st.booleans())
        else:
            given[field.name] = draw(st.integers(int(field.low or 0), 6))
    if kind == "nm" and given["n"] > given["m"]:
        given["n"], given["m"] = given["m"], given["n"]
    return PATTERNS.parse(given)


SPARSITIES = st.one_of(st.sampled_from([0.0, 0.5, 0.99]), st.floats(0, 0.99))
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])


@st.composite
def scores_of(draw: st.DrawFn, gemm: Gemm) -> Tensor:
    """Scores [out, in]: spread, with many ties, all equal, or below zero too."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    scores = torch.rand(gemm.shape, generator=generator)
    how = draw(st.sampled_from(["spread", "ties", "equal", "signed"]))
    if how == "ties":
        scores = (scores * 3).round()
    elif how == "equal":
        scores = torch.full_like(scores, 0.5)
    elif how == "signed":
        scores = scores - 0.5
    scores = scores.to(draw(DTYPES))
    if draw(st.booleans()):  # as a transposed convolution's view lies in memory
        scores = scores.t().contiguous().t()
    return scores


def fit(data: st.DataObject, kind: str) -> tuple[Pattern, Gemm]:
    pattern, gemm = data.draw(patterns(kind)), data.draw(gemms(kind))
    assume(not pattern.misfit(row_of(gemm)))
    return pattern, gemm


def asked_of(pattern: Pattern, sparsity: float) -> float:
    return sparsity if pattern.fixed_sparsity is None else pattern.fixed_sparsity


# ----- the properties ----------------------------------------------------------------------------


def test_every_pattern_has_a_checker() -> None:
    assert set(PATTERNS.kinds()) <= set(CHECKERS)


@pytest.mark.parametrize("kind", list(PATTERNS.kinds()))
@given(data=st.data())
@settings(max_examples=80)
def test_layout_count_and_the_best_are_kept(kind: str, data: st.DataObject) -> None:
    pattern, gemm = fit(data, kind)
    scores = data.draw(scores_of(gemm))
    sparsity = asked_of(pattern, data.draw(SPARSITIES))
    before = scores.clone()
    mask = pattern.mask(scores, sparsity, gemm)
    assert mask.dtype == torch.bool
    assert tuple(mask.shape) == gemm.shape
    assert torch.equal(scores, before), "scores are only looked at"
    if sparsity == 0:
        assert mask.all()
    CHECKERS[kind](pattern, gemm, scores.double().numpy(), mask.numpy(), sparsity)
    # The same scores in other memory, and as what they are in float32.
    assert torch.equal(mask, pattern.mask(scores.contiguous().clone(), sparsity, gemm))
    assert torch.equal(mask, pattern.mask(scores.float(), sparsity, gemm))
    # The mask is the parameter's, entry by entry.
    assert torch.equal(gemm.view(gemm.store(mask)), mask)


@pytest.mark.parametrize("kind", [kind for kind in PATTERNS.kinds() if kind != "block"])
@given(data=st.data())
@settings(max_examples=25)
def test_the_order_of_outputs_does_not_matter(kind: str, data: st.DataObject) -> None:
    """Without ties the mask of rows in another order is the mask in that order."""
    pattern, gemm = fit(data, kind)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    # Whole numbers: their sums are exact whatever the order.
    most = 2**24 // gemm.stored_numel
    scores = torch.randint(0, most, gemm.shape, generator=generator).float()
    ranked = [pattern.pool(scores, gemm)]
    if kind == "kernel":
        kernels = scores.view(-1, gemm.taps)
        kept = torch.from_numpy(library_of(pattern, kernels.numpy())[1])
        ranked = [scores, kept, kernels.sum(1) - kept]
    assume(all(len(each.unique()) == each.numel() for each in ranked))
    sparsity = asked_of(pattern, data.draw(SPARSITIES))
    order = torch.randperm(gemm.shape[0], generator=generator)
    mask = pattern.mask(scores, sparsity, gemm)
    assert torch.equal(pattern.mask(scores[order], sparsity, gemm), mask[order])


@pytest.mark.parametrize("kind", ["element", "row", "group", "block"])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_no_other_choice_of_units_keeps_more(kind: str, sparsity: float) -> None:
    """All choices of as many units, tried."""
    words = {"element": (2, 5), "row": (7, 3), "group": (3, 8), "block": (4, 6)}
    gemm = Gemm(words[kind])
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(1)).numpy()
    pattern = PATTERNS.parse("block:2x2" if kind == "block" else kind)
    mask = pattern.mask(torch.from_numpy(scores), sparsity, gemm).numpy()
    number = {"element": of_element, "row": of_row, "group": of_column, "block": of_block}[kind]
    _, labels = np.unique(number(pattern, gemm), return_inverse=True)
    sums = np.bincount(labels.reshape(-1), weights=scores.reshape(-1))
    kept = len(sums) - round(sparsity * len(sums))
    most = max(sum(sums[list(chosen)]) for chosen in itertools.combinations(range(len(sums)), kept))
    assert scores[mask].sum() == pytest.approx(most)


@pytest.mark.parametrize("kind", list(PATTERNS.kinds()))
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_a_sliver_is_pruned_or_refused(kind: str, shape: tuple[int, int]) -> None:
    gemm = Gemm(shape, head=1)
    pattern = PATTERNS.parse(kind)
    if pattern.misfit(row_of(gemm)):
        return
    for sparsity in (0.0, 0.4, 0.99):
        mask = pattern.mask(torch.zeros(shape), sparsity, gemm)
        assert tuple(mask.shape) == shape
        CHECKERS[kind](pattern, gemm, np.zeros(shape), mask.numpy(), asked_of(pattern, sparsity))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_scores_do_not_overflow(dtype: torch.dtype) -> None:
    """A unit of large float16 scores adds up beyond float16's range."""
    gemm = Gemm((4, 64))
    scores = torch.full(gemm.shape, 60_000.0, dtype=dtype)
    scores[1] /= 2
    mask = PATTERNS.parse("row").mask(scores, 0.25, gemm)
    assert mask.all(dim=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("kind", sorted(CHECKERS.keys() - {"nm", "layer"}))
@given(data=st.data())
def test_a_stricter_mask_lies_inside_and_prunes_as_much_as_one_by_itself(kind, data) -> None:
    gemm = data.draw(gemms(kind))
    pattern = data.draw(patterns(kind))
    assume(pattern.misfit(row_of(gemm)) is None)
    first, later = data.draw(scores_of(gemm)), data.draw(scores_of(gemm))
    levels = sorted(data.draw(st.lists(st.floats(0, 0.99), min_size=2, max_size=4)))
    mask = pattern.mask(first, levels[0], gemm)
    same = mask
    sizes = pattern.sizes(gemm)
    slack = 0 if sizes is None else int(sizes.max())
    for sparsity in levels[1:]:
        stricter = pattern.mask_within(later, sparsity, mask, gemm)
        assert not bool((stricter & ~mask).any())
        alone = pattern.mask(later, sparsity, gemm)
        assert abs(int(stricter.sum()) - int(alone.sum())) <= slack
        mask = stricter
        # By the same scores it is the very mask; kernels may have fewer patterns to choose from.
        same = pattern.mask_within(first, sparsity, same, gemm)
        if kind != "kernel":
            assert torch.equal(same, pattern.mask(first, sparsity, gemm))
