"""Pictures, values and histograms of real tensors; previews against the patterns' own masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from secateur.engine.criteria import CRITERIA, Statistics
from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.masks import Masks
from secateur.engine.models.model import Model
from secateur.engine.patterns import PATTERNS, Pattern
from secateur.engine.plan import Rule
from secateur.engine.views.cache import ByteCache
from secateur.engine.views.views import VIEWS, Views, example, examples

WEIGHTS = {
    "fc": (torch.float32, Gemm((30, 52))),
    "conv": (torch.float32, Gemm((16, 9, 3, 3), (3, 3))),
    "half": (torch.bfloat16, Gemm((20, 36), transposed=True)),
    "thin": (torch.float32, Gemm((2, 3))),
}
PATTERN_WORDS = ["element", "group", "filter", "block:4x4", "block:5x7", "nm:2:4", "nm:1:3"]


def make_model(scale=1.0):
    generator = torch.Generator().manual_seed(7)
    rows, state = [], {}
    for path, (dtype, gemm) in WEIGHTS.items():
        weight = torch.randn(gemm.stored, generator=generator).mul(scale).to(dtype)
        if path == "fc":  # many equal scores: a third are zeros, the rest of few sizes
            weight = (weight * 2).round()
        state[f"{path}.weight"] = weight
        rows.append(LayerInfo(path, "Linear", f"{path}.weight", gemm.stored, weight.numel(),
                              str(dtype).removeprefix("torch."), gemm, prunable=True))  # fmt: skip
    norm = torch.ones(4)
    state["norm.weight"] = norm
    rows.append(LayerInfo("norm", "LayerNorm", "norm.weight", (4,), 4, "float32", reason="no W"))
    total = sum(t.numel() for t in state.values())
    return Model("test", ModelInfo("test", "test", tuple(rows), total, 4 * total), state)


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def views(model):
    return Views(model)


def rule(word, sparsity=0.5, criterion="magnitude"):
    pattern = PATTERNS.parse(word)
    fixed = pattern.fixed_sparsity
    return Rule("*", pattern, CRITERIA.parse(criterion), sparsity if fixed is None else fixed)


def whole(model, layer):
    return (0, 0, *model.matrix(layer).shape)


def shown_mask(views, model, layer, chosen):
    """The mask as the tile shows it with one pixel per cell."""
    _, arrays = views.tile(layer, "magnitude", whole(model, layer), (999, 999), chosen)
    assert set(np.unique(arrays["density"])) <= {0, 255}
    return torch.from_numpy(arrays["density"] == 255)


@pytest.mark.parametrize("layer", ["fc", "conv", "half"])
@pytest.mark.parametrize("word", PATTERN_WORDS)
def test_a_preview_is_the_patterns_own_mask_at_every_slider_position(model, views, layer, word):
    gemm = model.info.layer(layer).gemm
    for criterion in ("magnitude", {"kind": "magnitude", "norm": 1}):
        scores = CRITERIA.parse(criterion).scores(model.matrix(layer))
        for sparsity in (0.5, 0.0, 0.31, 0.9, 0.52, 0.999, 0.31):
            chosen = rule(word, sparsity, criterion)
            expected = chosen.pattern.mask(scores, chosen.sparsity, gemm)
            assert torch.equal(shown_mask(views, model, layer, chosen), expected), sparsity


def test_all_registered_patterns_and_criteria_preview_exactly(model, views):
    info = model.info.layer("conv")
    gemm = info.gemm
    for kind in PATTERNS.kinds():
        for criterion in CRITERIA.kinds():
            chosen = rule(kind, 0.4, criterion)
            if chosen.pattern.misfit(info):
                meta, _ = views.tile("conv", "weight", whole(model, "conv"), (9, 9), chosen)
                assert meta["misfit"] == chosen.pattern.misfit(info)
                continue
            if chosen.criterion.needs:  # no data can pass through weights alone
                meta, _ = views.tile("conv", "weight", whole(model, "conv"), (9, 9), chosen)
                assert meta["waits"] or meta["misfit"], criterion
                continue
            scores = chosen.criterion.scores(model.matrix("conv"), Statistics("conv", 0))
            expected = chosen.pattern.mask(scores, chosen.sparsity, gemm)
            assert torch.equal(shown_mask(views, model, "conv", chosen), expected), kind


def test_a_rule_comes_as_a_plan_file_writes_it(model, views):
    written = {"layers": "conv", "pattern": {"kind": "nm:2:4", "order": "channel"}}
    meta, _ = views.tile("conv", "magnitude", whole(model, "conv"), (4, 4), written)
    assert meta["units"] == 16 * 81
    # Nine channels are two full runs of four and one entry, which is kept.
    assert meta["kept_units"] == 16 * 9 * 5
    with pytest.raises(BadInput, match="did you mean 'sparsity'"):
        views.tile("conv", "magnitude", (0, 0, 4, 4), (4, 4), {**written, "sparsty": 0.5})


@pytest.mark.parametrize("word", PATTERN_WORDS)
def test_the_summary_counts_what_the_mask_keeps(model, views, word):
    chosen = rule(word, 0.6)
    meta, _ = views.tile("conv", "magnitude", whole(model, "conv"), (10, 10), chosen)
    matrix = model.matrix("conv").double()
    gemm = model.info.layer("conv").gemm
    mask = chosen.pattern.mask(matrix.float().square(), chosen.sparsity, gemm)
    assert meta["achieved"] == pytest.approx(1 - float(mask.float().mean()))
    energy = float((matrix[mask] ** 2).sum() / (matrix**2).sum())
    assert meta["energy"] == pytest.approx(energy, rel=1e-5)
    units = {"group": (81, mask.any(0)), "filter": (16, mask.any(1)), "element": (1296, mask)}
    if word in units:
        assert (meta["units"], meta["kept_units"]) == (units[word][0], int(units[word][1].sum()))
    assert meta["unit"] == chosen.pattern.unit
    assert meta["misfit"] is None


def test_a_pattern_that_does_not_fit_says_so_and_prunes_nothing(views):
    meta, arrays = views.tile("thin", "magnitude", (0, 0, 2, 3), (2, 3), rule("block:4x4"))
    assert "smaller than one 4x4 block" in meta["misfit"]
    assert (meta["achieved"], meta["energy"]) == (0, 1)
    assert (arrays["density"] == 255).all()


@pytest.mark.parametrize("view", VIEWS)
def test_colours_map_pixels_between_the_limits(model, views, view):
    trained = {"conv.weight": model.state["conv.weight"] * 1.5 + 0.25}
    size = (8, 20)
    meta, arrays = views.tile("conv", view, whole(model, "conv"), size, trained=trained)
    matrix = trained["conv.weight"].reshape(16, 81)
    change = (matrix - model.matrix("conv")).abs()
    rows = [(i * 16) // 8 for i in range(9)]
    columns = [(j * 81) // 20 for j in range(21)]
    reduce = {
        "magnitude": lambda cells: matrix[cells].abs().mean(),
        "peak": lambda cells: matrix[cells].abs().max(),
        "weight": lambda cells: matrix[cells].mean(),
        "change": lambda cells: change[cells].mean(),
    }[view]
    expected = np.array([
        [float(reduce(np.s_[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]))
         for j in range(20)]
        for i in range(8)
    ])  # fmt: skip
    low, high = meta["lo"], meta["hi"]
    if view == "weight":
        assert low == -high
    assert expected.min() <= low + 0.1 or view == "weight"
    back = low + arrays["value"] / 255 * (high - low)
    inside = np.clip(expected, low, high)
    assert np.abs(back - inside).max() <= (high - low) / 255 + 1e-6


def test_a_pixel_is_never_less_than_a_cell(views, model):
    _, arrays = views.tile("conv", "magnitude", (2, 10, 6, 40), (300, 7), rule("element"))
    assert arrays["value"].shape == arrays["density"].shape == (4, 7)
    assert arrays["value"].dtype == arrays["density"].dtype == np.uint8
    _, arrays = views.tile("conv", "magnitude", (-5, -5, 900, 900), (900, 900))
    assert arrays["value"].shape == (16, 81)


def test_panning_does_not_change_the_colours(views, model):
    low_high = set()
    for left in (0, 10, 20):
        meta, _ = views.tile("conv", "magnitude", (0, left, 8, left + 20), (80, 200))
        low_high.add((meta["lo"], meta["hi"]))
    assert len(low_high) == 1


def test_one_large_weight_shows_in_the_peaks_of_a_large_layer():
    weight = torch.full((3000, 2000), 0.01)
    weight[1234, 777] = 5.0
    layer = LayerInfo("l", "Linear", "w", (3000, 2000), 6_000_000, "float32", Gemm((3000, 2000)))
    views = Views(Model("m", ModelInfo("m", "m", (layer,), 6_000_000, 24_000_000), {"w": weight}))
    _, arrays = views.tile("l", "peak", (1000, 700, 1500, 900), (50, 20))
    assert arrays["value"][23, 7] == arrays["value"].max() > 0
    assert (arrays["value"] > 0).sum() == 1


def test_a_layer_of_equal_weights_has_a_picture(views, model):
    model.state["conv.weight"].fill_(0.5)
    for view in VIEWS:
        meta, arrays = views.tile("conv", view, whole(model, "conv"), (9, 9))
        assert arrays["value"].shape == (9, 9)
        assert meta["lo"] <= meta["hi"]


def test_without_a_rule_the_masks_of_the_run_show(model, views):
    kept = torch.zeros(16, 81, dtype=torch.bool)
    kept[3] = True
    masks = Masks({"conv": kept})
    meta, arrays = views.tile("conv", "magnitude", whole(model, "conv"), (16, 81), masks=masks)
    assert (arrays["density"][3] == 255).all()
    assert (np.delete(arrays["density"], 3, axis=0) == 0).all()
    assert meta["achieved"] == pytest.approx(15 / 16)
    assert (meta["kept_units"], meta["units"], meta["unit"]) == (81, 16 * 81, "weight")
    kept = kept.clone()
    kept[4] = True
    meta, arrays = views.tile(
        "conv", "magnitude", whole(model, "conv"), (16, 81), masks=Masks({"conv": kept})
    )
    assert (arrays["density"][4] == 255).all()
    meta, _ = views.tile("fc", "magnitude", whole(model, "fc"), (16, 81), masks=masks)
    assert meta["achieved"] == 0


def test_a_preview_lies_over_the_weights_as_loaded(model, views):
    trained = {"conv.weight": model.state["conv.weight"] * 7}
    rect, size = whole(model, "conv"), (16, 81)
    loaded, _ = views.tile("conv", "peak", rect, size)
    preview, _ = views.tile("conv", "peak", rect, size, rule("element"), trained=trained)
    after, _ = views.tile("conv", "peak", rect, size, trained=trained)
    assert preview["hi"] == loaded["hi"]
    assert after["hi"] == pytest.approx(7 * loaded["hi"])
    change, _ = views.tile("conv", "change", rect, size, rule("element"), trained=trained)
    assert change["hi"] == pytest.approx(6 * loaded["hi"])
    again = {"conv.weight": model.state["conv.weight"] * 9}
    after, _ = views.tile("conv", "peak", rect, size, trained=again)
    assert after["hi"] == pytest.approx(9 * loaded["hi"])


def test_values_are_those_of_the_gemm_view(model, views):
    matrix = model.matrix("half")
    chosen = rule("group", 0.5)
    scores = chosen.criterion.scores(matrix)
    mask = chosen.pattern.mask(scores, 0.5, model.info.layer("half").gemm)
    for row, column in ((0, 0), (35, 19), (7, 11)):
        answer = views.value("half", row, column, chosen)
        assert answer == {"value": float(matrix[row, column]), "kept": bool(mask[row, column])}
    with pytest.raises(IndexError, match="36x20"):
        views.value("half", 36, 0)
    trained = {"half.weight": torch.full((20, 36), 3.0)}
    assert views.value("half", 1, 1, trained=trained)["value"] == 3.0


def test_the_histogram_counts_all_and_kept(model, views):
    chosen = rule("element", 0.25)
    meta, arrays = views.histogram("fc", chosen, bins=40)
    matrix = model.matrix("fc").numpy()
    mask = chosen.pattern.mask(chosen.criterion.scores(model.matrix("fc")), 0.25).numpy()
    assert arrays["edges"].dtype == np.float32
    assert arrays["all"].dtype == arrays["kept"].dtype == np.int64
    assert meta["hi"] == -meta["lo"] == np.abs(matrix).max()
    assert len(arrays["edges"]) == 41
    # The weights are whole numbers; none but zero falls on a border of forty bins.
    expected, _ = np.histogram(matrix, arrays["edges"].astype(np.float64))
    assert np.array_equal(arrays["all"], expected)
    expected, _ = np.histogram(matrix[mask], arrays["edges"].astype(np.float64))
    assert np.array_equal(arrays["kept"], expected)
    assert meta["zeros"] == (matrix == 0).sum() > 0
    assert meta["mean"] == pytest.approx(matrix.mean(), abs=1e-6)
    assert meta["std"] == pytest.approx(matrix.std(), rel=1e-5)
    assert meta["kept_std"] == pytest.approx(matrix[mask].std(), rel=1e-5)
    with pytest.raises(ValueError, match="even"):
        views.histogram("fc", bins=7)


def test_the_histogram_of_zeros_is_no_fault(model, views):
    model.state["conv.weight"].zero_()
    meta, arrays = views.histogram("conv", bins=8)
    assert arrays["all"].sum() == meta["zeros"] == meta["total"] == 16 * 81
    assert meta["std"] == 0


def test_unknown_layers_and_views_are_named(views):
    with pytest.raises(BadInput, match="no layer nowhere"):
        views.tile("nowhere", "magnitude", (0, 0, 1, 1), (1, 1))
    with pytest.raises(BadInput, match="norm has no weight matrix: no W"):
        views.histogram("norm")
    with pytest.raises(ValueError, match="no view 'x'"):
        views.tile("fc", "x", (0, 0, 1, 1), (1, 1))


def test_invalidate_forgets_a_layers_weights(model, views):
    before = shown_mask(views, model, "conv", rule("group"))
    _, first = views.tile("conv", "magnitude", whole(model, "conv"), (16, 81))
    model.state["conv.weight"].copy_(model.state["conv.weight"].flip(1))
    views.invalidate("conv")
    after = shown_mask(views, model, "conv", rule("group"))
    _, second = views.tile("conv", "magnitude", whole(model, "conv"), (16, 81))
    assert not torch.equal(before, after)
    assert not np.array_equal(first["value"], second["value"])


def test_previews_under_a_tight_budget_are_the_same(model):
    tight, roomy = Views(model, budget=1000), Views(model)
    for layer in ("fc", "conv", "fc"):
        for word in PATTERN_WORDS:
            for sparsity in (0.2, 0.7):
                chosen = rule(word, sparsity)
                assert torch.equal(
                    shown_mask(tight, model, layer, chosen),
                    shown_mask(roomy, model, layer, chosen),
                )


def test_the_cache_stays_within_its_bytes():
    cache = ByteCache(100)
    for i in range(10):
        cache.put(("a", i), i, 30)
    assert cache.nbytes == 90
    assert cache.get(("a", 9)) == 9
    assert cache.get(("a", 6)) is None
    cache.get(("a", 7))
    cache.put(("b", 0), "b", 30)
    assert cache.get(("a", 8)) is None
    assert cache.get(("a", 7)) == 7
    cache.put(("c", 0), "large", 1000)
    assert cache.get(("c", 0)) == "large"
    assert cache.get(("a", 7)) is None
    cache.forget("c")
    assert cache.nbytes == 0
    made = []
    for _ in range(2):
        assert cache.fetch(("d",), lambda: made.append(1) or len(made), lambda value: 1) == 1


def test_energy_of_nothing_is_whole(model, views):
    model.state["conv.weight"].zero_()
    meta, _ = views.tile("conv", "magnitude", whole(model, "conv"), (4, 4), rule("group"))
    assert meta["energy"] == 1
    masks = Masks({"conv": torch.zeros(16, 81, dtype=torch.bool)})
    meta, _ = views.tile("conv", "magnitude", whole(model, "conv"), (4, 4), masks=masks)
    assert meta["energy"] == 1


def test_examples_show_every_pattern_at_a_half():
    shown = examples()
    assert set(shown) == set(PATTERNS.kinds())
    for kind, mask in shown.items():
        assert mask.shape == (12, 12)
        assert mask.dtype == np.uint8
        assert 0.4 <= mask.mean() <= 0.6, kind
    assert (shown["group"] == shown["group"][0]).all()
    assert (shown["filter"][:, 0] == shown["filter"].T).all()
    assert (shown["nm"].reshape(12, 3, 4).sum(2) == 2).all()


def test_a_pattern_of_kernels_is_shown_on_kernels():
    class Corners(Pattern):
        kind = "corners"
        pictured_on_kernels = True

        def misfit(self, layer):
            return None if layer.gemm.kernel == (3, 3) else "has no 3x3 kernels"

        def mask(self, scores, sparsity, gemm=None):
            kernel = torch.tensor([1, 0, 1, 0, 0, 0, 1, 0, 1], dtype=torch.bool)
            return kernel.repeat(gemm.shape[0], gemm.channels)

    shown = example(Corners())
    assert np.array_equal(shown[3:6, 6:9], [[1, 0, 1], [0, 0, 0], [1, 0, 1]])
    assert shown.sum() == 16 * 4


def test_whole_layers_and_heads_are_previewed_as_what_they_are(model):
    rows = [
        replace(row, branch=True, gemm=replace(row.gemm, head=4)) if row.path == "fc" else row
        for row in model.info.layers
    ]
    traced = replace(model, info=replace(model.info, layers=tuple(rows)))
    views = Views(traced)
    meta, _ = views.tile("fc", "magnitude", whole(traced, "fc"), (9, 9), rule("layer", 0.5))
    assert "as a whole" in meta["waits"]
    heads = rule("head", 0.5)
    gemm = traced.info.layer("fc").gemm
    expected = heads.pattern.mask(traced.matrix("fc").square(), 0.5, gemm)
    assert torch.equal(shown_mask(views, traced, "fc", heads), expected)
    meta, _ = views.tile("fc", "magnitude", whole(traced, "fc"), (9, 9), heads)
    assert meta["unit"] == "attention head"
    assert meta["units"] == gemm.shape[1] // 4
