"""Every pattern: its layout holds, the best are kept, the count is right, ties repeat."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo
from secateur.engine.patterns import PATTERNS, Pattern
from secateur.kernels.selection.kernel_patterns import learn

WORDS = [
    "element", "vector:3", "vector:8", "nm:2:4", "nm:1:3", "block:2x3", "block:4x4", "group",
    "column", "channel", "row", "filter", "kernel:4", "kernel:2", "head",
]  # fmt: skip
# These choose entries within runs or kernels; the last two tests say what they keep.
OWN_CHOICE = {"nm", "vector", "kernel"}


def layer(gemm: Gemm, branch: bool = False) -> LayerInfo:
    return LayerInfo(
        "fc", "Linear", "fc.weight", gemm.stored, gemm.stored_numel, "float32", gemm,
        prunable=True, branch=branch,
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Pattern, Gemm, torch.Tensor, float]:
    pattern = PATTERNS.parse(draw(st.sampled_from([*WORDS, {"kind": "nm", "order": "channel"}])))
    if draw(st.booleans()):
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        gemm = Gemm((draw(st.integers(1, 9)), draw(st.integers(1, 9)), *kernel), kernel)
    else:
        columns, head = draw(st.integers(1, 20)), draw(st.integers(1, 4))
        gemm = Gemm((draw(st.integers(1, 20)), columns), head=0 if columns % head else head)
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    scores = torch.rand(gemm.shape, generator=generator)
    if draw(st.booleans()):
        scores = (scores * 3).round()  # many ties
    return pattern, gemm, scores.to(dtype), draw(st.floats(0, 0.99))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_layout_count_and_repeatability(case: tuple[Pattern, Gemm, torch.Tensor, float]) -> None:
    pattern, gemm, scores, sparsity = case
    if pattern.misfit(layer(gemm)):
        return
    mask = pattern.mask(scores, sparsity, gemm)
    assert mask.dtype == torch.bool
    assert tuple(mask.shape) == gemm.shape
    assert torch.equal(mask, pattern.mask(scores.clone(), sparsity, gemm))
    if pattern.kind in OWN_CHOICE:
        return
    # What is kept is whole units: pooling and spreading the mask gives it back.
    units = pattern.pool(mask.float(), gemm)
    assert ((units == 0) | (units == 1)).all()
    assert torch.equal(pattern.spread(units.bool(), gemm), mask)
    # As close to the request as whole units allow, and one unit stays.
    sizes = pattern.sizes(gemm)
    unit = mask.numel() / units.numel() if sizes is None else int(sizes.max())
    asked = min(sparsity * mask.numel(), mask.numel() - unit / 2)
    assert mask.any()
    assert abs(int((~mask).sum()) - asked) <= unit / 2 + 1e-6
    # No pruned unit scores higher than a kept one.
    pooled = pattern.pool(scores.float(), gemm)
    if units.any() and not units.all():
        assert pooled[units == 0].max() <= pooled[units == 1].min()


@pytest.mark.parametrize("order", ["flattened", "channel"])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 5)])
def test_nm_keeps_the_best_of_every_run(order: str, n: int, m: int) -> None:
    gemm = Gemm((3, 7, 2, 2), (2, 2))
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(1))
    mask = PATTERNS.parse({"kind": f"nm:{n}:{m}", "order": order}).mask(scores, 0.5, gemm)
    for out in range(3):
        row, kept = scores[out], mask[out]
        if order == "flattened":
            lanes = [list(range(28))]
        else:
            lanes = [[c * 4 + tap for c in range(7)] for tap in range(4)]
        for lane in lanes:
            for start in range(0, len(lane), m):
                run = lane[start : start + m]
                best = max(
                    itertools.combinations(run, min(n, len(run))),
                    key=lambda chosen: sum(float(row[i]) for i in chosen),
                )
                assert {i for i in run if kept[i]} == set(best)


def test_element_equals_torch_prune() -> None:
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    for sparsity in (0.0, 0.1, 0.333, 0.5, 0.87):
        linear = torch.nn.Linear(30, 20)
        linear.weight.data.copy_(weight)
        torch_prune.l1_unstructured(linear, "weight", amount=sparsity)
        mask = PATTERNS.parse("element").mask(weight.abs(), sparsity)
        assert torch.equal(mask, linear.weight_mask.bool())


def test_filter_and_group_equal_torch_prune() -> None:
    conv = torch.nn.Conv2d(6, 10, 3)
    gemm = Gemm((10, 6, 3, 3), (3, 3))
    scores = gemm.view(conv.weight.detach()).square()
    torch_prune.ln_structured(conv, "weight", amount=0.4, n=2, dim=0)
    mask = PATTERNS.parse("filter").mask(scores, 0.4, gemm)
    assert torch.equal(gemm.store(mask), conv.weight_mask.bool())


def test_ragged_blocks_hit_the_request() -> None:
    scores = torch.rand(10, 10, generator=torch.Generator().manual_seed(0))
    pattern = PATTERNS.parse("block:4x4")
    for sparsity in (0.2, 0.44, 0.7):
        mask = pattern.mask(scores, sparsity)
        assert abs(int((~mask).sum()) - 100 * sparsity) <= 8


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("grup", "group"),
        ("nm:5:4", "at most M"),
        ("block:4", "block:"),
        ("block:0x4", "at least 1"),
        ({"kind": "block", "hight": 3}, "height"),
        (7, "word or a mapping"),
        ("element:3", "written element"),
    ],
)
def test_bad_words_name_what_would_fit(value: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        PATTERNS.parse(value)


def test_a_block_larger_than_the_layer_says_what_fits() -> None:
    misfit = PATTERNS.parse("block:4x4").misfit(layer(Gemm((2, 100))))
    assert misfit is not None
    assert "block:2x4" in misfit


@pytest.mark.parametrize("word", WORDS)
def test_the_short_form_reads_back(word: str) -> None:
    pattern = PATTERNS.parse(word)
    assert pattern.to_plan() == word
    assert PATTERNS.parse(pattern.to_plan()) == pattern


def test_every_kind_describes_itself() -> None:
    for cls in PATTERNS:
        assert len(cls.summary()) > 10
        assert all(field.help for field in cls.fields())
        assert cls.label


@given(st.integers(2, 9), st.integers(1, 30), st.floats(0, 0.99), st.integers(0, 99))
def test_vector_takes_as_many_from_every_run(
    length: int, columns: int, sparsity: float, seed: int
) -> None:
    pattern = PATTERNS.parse(f"vector:{length}")
    if pattern.misfit(layer(Gemm((3, columns)))):
        return
    scores = torch.rand(3, columns, generator=torch.Generator().manual_seed(seed))
    mask = pattern.mask(scores, sparsity)
    for row, kept in zip(scores, mask, strict=True):
        for start in range(0, columns, length):
            run, flags = row[start : start + length], kept[start : start + length]
            most = length - 1  # a whole run keeps one; a shorter last one may go
            assert int((~flags).sum()) == min(round(sparsity * len(run)), most)
            if flags.any() and not flags.all():
                assert run[~flags].max() <= run[flags].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 5 / 9, 0.7, 0.95])
def test_kernels_keep_the_best_pattern_of_the_library(sparsity: float) -> None:
    gemm = Gemm((6, 5, 3, 3), (3, 3))
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(3))
    pattern = PATTERNS.parse({"kind": "kernel:4", "library": 6})
    mask = pattern.mask(scores, sparsity, gemm).view(-1, 9)
    kernels = scores.view(-1, 9)
    counts = mask.sum(dim=1)
    assert set(counts.tolist()) <= {0, 4, 9}
    assert abs(int((~mask).sum()) - sparsity * mask.numel()) <= 2.5
    library = {tuple(kept.tolist()) for kept in mask[counts == 4]}
    assert len(library) <= 6
    for kernel, kept in zip(kernels[counts == 4], mask[counts == 4], strict=True):
        best = max(float(kernel[torch.tensor(entry)].sum()) for entry in library)
        assert float(kernel[kept].sum()) == pytest.approx(best)
    # Connectivity takes the kernels that keep least; patterns spare those that would lose most.
    if (counts == 0).any() and (counts == 4).any():
        assert 9 not in counts
    if (counts == 9).any():
        assert 0 not in counts


def test_the_library_is_what_most_kernels_choose_for_themselves() -> None:
    common = torch.tensor([9.0, 9, 9, 9, 0, 0, 0, 0, 0])
    rare = common.flip(0)
    kernels = torch.stack([common] * 5 + [rare])
    assert torch.equal(learn(kernels, 4, 1), (common > 0).unsqueeze(0))
    assert torch.equal(learn(kernels, 4, 8), torch.stack([common > 0, rare > 0]))


@pytest.mark.parametrize(
    ("word", "gemm", "words"),
    [
        ("kernel:4", Gemm((4, 4)), "is no convolution and has no kernels; element or filter"),
        ("kernel:4", Gemm((4, 4, 1, 1), (1, 1)), "1×1"),
        ("kernel:4", Gemm((4, 4, 2, 2), (2, 2)), "2×2"),
        ("kernel:4", Gemm((4, 4, 2, 2), (2, 2)), "kernel:3, element or filter would fit"),
        ("vector:8", Gemm((4, 5)), "vector:5"),
        ("vector:8", Gemm((4, 1)), "element would fit"),
        ("nm:2:4", Gemm((4, 3)), "rows of 3, shorter than one run of 4; element would fit"),
        ({"kind": "nm", "order": "channel"}, Gemm((4, 1, 3, 3), (3, 3)), "order flattened"),
        ({"kind": "nm", "order": "channel"}, Gemm((4, 1, 1, 1), (1, 1)), "rows of 1"),
    ],
)
def test_misfits_name_the_size(word: object, gemm: Gemm, words: str) -> None:
    assert words in (PATTERNS.parse(word).misfit(layer(gemm)) or "")


HEADS = Gemm((6, 12), head=3)


def test_heads_go_by_all_their_columns() -> None:
    scores = torch.rand(HEADS.shape, generator=torch.Generator().manual_seed(2))
    scores[:, 3:6] = 0.01
    mask = PATTERNS.parse("head").mask(scores, 0.25, HEADS)
    assert not mask[:, 3:6].any()
    assert int(mask.sum()) == 6 * 9


@pytest.mark.parametrize("word", ["head", "filter", "row", "channel", "group", "block:4x4"])
def test_one_unit_always_stays(word: str) -> None:
    scores = torch.rand(HEADS.shape, generator=torch.Generator().manual_seed(2))
    assert PATTERNS.parse(word).mask(scores, 0.999, HEADS).any()


@pytest.mark.parametrize(
    ("word", "gemm", "words"),
    [
        ("head", Gemm((4, 4)), "no attention heads"),
        ("head", Gemm((4, 4), head=4), "only attention head"),
        ("layer", Gemm((4, 4)), "no residual branch"),
    ],
)
def test_heads_and_layers_fit_where_the_trace_found_them(word: str, gemm: Gemm, words: str) -> None:
    assert words in (PATTERNS.parse(word).misfit(layer(gemm)) or "")
    assert PATTERNS.parse("head").misfit(layer(HEADS)) is None
    assert PATTERNS.parse("layer").misfit(layer(HEADS, branch=True)) is None


def test_a_layer_goes_or_stays_as_a_whole() -> None:
    pattern, scores = PATTERNS.parse("layer"), torch.rand(4, 6)
    assert pattern.mask(scores, 0.0).all()
    assert not pattern.mask(scores, 1.0).any()
