"""Criteria against small derivations of their own: loops, definitions, inverses step by step."""

import math

import pytest
import torch

from secateur.engine.criteria import CRITERIA, Statistics
from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo
from secateur.engine.patterns import PATTERNS
from secateur.kernels.selection.obs import inverse, saliency, sweep


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gram(groups, ins, positions=200, seed=1):
    """X·Xᵀ of correlated inputs, float32 [groups, in, in]."""
    mixed = random(groups, ins, ins, seed=seed) / math.sqrt(ins) + 0.5 * torch.eye(ins)
    x = mixed @ random(groups, ins, positions, seed=seed + 1)
    return x @ x.transpose(1, 2)


def row(kind, gemm=None):
    gemm = gemm or Gemm((8, 8))
    return LayerInfo("layer", kind, "layer.weight", gemm.stored, 64, "float32", gemm)


def test_lamp_is_its_definition_ties_included():
    weight = (random(7, 9) * 2).round() / 2
    weight[0, 0] = 0.0
    scores = CRITERIA.parse("lamp").scores(weight)
    for u, score in zip(weight.flatten().tolist(), scores.flatten().tolist(), strict=True):
        at_least = sum(v * v for v in weight.flatten().tolist() if abs(v) >= abs(u))
        assert score == pytest.approx(u * u / at_least, rel=1e-6)
    assert torch.equal(scores[weight.abs() == 1.0].unique(), scores[weight.abs() == 1.0][:1])
    # Eq. 4 of S1 is the same but for its slip: the largest alone makes up its whole sum.
    assert CRITERIA.parse("lamp").scores(torch.tensor([[1.0, 3.0]]))[0, 1] == 1.0


def test_random_repeats_by_seed_and_differs_by_layer():
    criterion, weight = CRITERIA.parse("random"), torch.zeros(20, 30)
    first = criterion.scores(weight, Statistics("a", 5))
    assert torch.equal(first, criterion.scores(weight, Statistics("a", 5)))
    others = [Statistics("b", 5), Statistics("a", 6)]
    assert not any(torch.equal(first, criterion.scores(weight, other)) for other in others)
    assert 0 <= float(first.min()) < float(first.max()) < 1


def test_gradient_criteria_are_their_formulas():
    weight, gradient = random(4, 6), random(4, 6, seed=2)
    known = Statistics("x", 0, gradient=gradient, fisher=gradient.square() + 1)
    product = weight * gradient

    def scores(value):
        return CRITERIA.parse(value).scores(weight, known)

    assert torch.equal(scores("taylor"), product**2)
    assert torch.equal(scores({"kind": "taylor", "form": "absolute"}), product.abs())
    assert torch.equal(scores("snip"), product.abs())
    share = scores({"kind": "snip", "share": "layer"})
    assert torch.allclose(share, product.abs() / product.abs().sum())
    assert torch.allclose(scores("fisher"), weight**2 * (gradient**2 + 1) / 2)


def test_movement_prunes_what_shrinks_and_zeros_before_all():
    weight = torch.tensor([[0.0, 1.0, -2.0, 3.0, 0.0]])
    movement = torch.tensor([[0.0, -4.0, 1.0, -0.5, 0.0]])
    criterion = CRITERIA.parse("movement")
    scores = criterion.scores(weight, Statistics("x", 0, movement=movement))
    assert scores.argsort(stable=True).tolist() == [[0, 4, 1, 3, 2]]
    assert torch.equal(scores[0, 1:4], movement[0, 1:4])
    assert criterion.signed


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_wanda_is_a_loop_over_entries(groups):
    weight, norms = random(6, 5), random(groups, 5, seed=3).abs()
    known = Statistics("x", 0, inputs=norms)
    scores = CRITERIA.parse("wanda").scores(weight, known)
    for o in range(6):
        for j in range(5):
            wanted = abs(float(weight[o, j])) * float(norms[o * groups // 6, j])
            assert float(scores[o, j]) == pytest.approx(wanted, rel=1e-6)
    by_output = CRITERIA.parse({"kind": "wanda", "compare": "output"}).scores(weight, known)
    mask = PATTERNS.parse("element").mask(by_output, 0.4)
    for o in range(6):
        assert set(torch.nonzero(mask[o]).flatten().tolist()) == set(
            scores[o].argsort()[2:].tolist()
        )


def sequential_obs(weight, hessian, sparsity):
    """OBS column after column, with an inverse of its own over the weights still to come."""
    left, kept = weight.double().clone(), torch.ones_like(weight, dtype=torch.bool)
    out, columns = weight.shape
    pruned = 0
    for j in range(columns):
        inverted = torch.linalg.inv(hessian[j:, j:].double())
        count = round(sparsity * out * (j + 1)) - pruned
        pruned += count
        for o in (left[:, j] ** 2 / inverted[0, 0]).argsort()[:count].tolist():
            left[o, j:] -= left[o, j] / inverted[0, 0] * inverted[0]
            left[o, j] = 0
            kept[o, j] = False
    return kept, left


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_sparsegpt_by_single_columns_is_sequential_obs(sparsity):
    weight, hessian = random(12, 20), gram(1, 20)
    damped = hessian[0] + 0.01 * hessian[0].diagonal().mean() * torch.eye(20)
    kept, left = sequential_obs(weight, damped, sparsity)
    criterion = CRITERIA.parse({"kind": "obs", "block": 1})
    mask, updated = criterion.prune(
        weight, PATTERNS.parse("element"), sparsity, Gemm((12, 20)),
        Statistics("x", 0, hessian=hessian),
    )  # fmt: skip
    assert torch.equal(mask, kept)
    assert torch.allclose(updated.double(), left, atol=1e-5)
    assert not updated[~mask].any()


def test_the_update_is_the_same_however_columns_are_cut():
    # A mask set beforehand, so that only the arithmetic of lazy updates differs.
    weight, hessian = random(6, 300), gram(1, 300, 900)
    mask = torch.rand(6, 300, generator=torch.Generator().manual_seed(0)) > 0.5
    inverted = inverse(hessian, 0.01)

    def choose(scores, first):
        return mask[:, first : first + scores.shape[1]]

    results = [sweep(weight, inverted, width, choose)[1] for width in (1, 7, 128, 300)]
    for result in results[1:]:
        assert torch.allclose(result, results[0], atol=1e-5)


def test_groups_are_pruned_each_with_its_own_hessian():
    weight, hessian = random(6, 10), gram(3, 10)
    inverted = inverse(hessian, 0.01)
    mask = torch.rand(6, 10, generator=torch.Generator().manual_seed(0)) > 0.5
    together = sweep(weight, inverted, 10, lambda scores, first: mask)[1]
    for g in range(3):
        rows = slice(2 * g, 2 * g + 2)
        alone = sweep(weight[rows], inverted[g : g + 1], 10, lambda s, f, r=rows: mask[r])[1]
        assert torch.allclose(together[rows], alone, atol=1e-6)


def test_the_saliency_is_the_error_of_the_best_update():
    weight, hessian = random(2, 6), gram(1, 6)
    inverted = inverse(hessian, 1e-6)
    scores = saliency(weight, inverted)
    damped = torch.linalg.inv(inverted[0])
    for o in range(2):
        for j in range(6):
            others = [i for i in range(6) if i != j]
            # The best change of the others with w_j gone, by least squares.
            change = torch.zeros(6, dtype=torch.double)
            change[j] = -weight[o, j]
            pull = damped[others][:, j] * change[j]
            change[others] = -torch.linalg.solve(damped[others][:, others], pull)
            assert float(scores[o, j]) == pytest.approx(float(change @ damped @ change), rel=1e-4)


WORDS = ["element", "nm:2:4", "nm:1:3", "vector:8", "block:2x5", "group", "column", "kernel:4",
         {"kind": "nm", "order": "channel"}]  # fmt: skip


@pytest.mark.parametrize("word", WORDS, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_obs_keeps_the_pattern_and_beats_its_mask_without_update(word, groups):
    gemm = Gemm((12, 6, 3, 3), (3, 3), groups)
    pattern = PATTERNS.parse(word)
    sparsity = pattern.fixed_sparsity or 0.4
    weight, hessian = random(*gemm.shape), gram(groups, 54, 400)
    known = Statistics("x", 0, hessian=hessian)
    mask, updated = CRITERIA.parse("obs").prune(weight, pattern, sparsity, gemm, known)
    reference = pattern.mask(weight.square(), sparsity, gemm)
    assert abs(int(mask.sum()) - int(reference.sum())) <= 5  # half a block
    if word == "element":
        assert int((~mask).sum()) == round(0.4 * mask.numel())
    if word == "nm:1:3":
        assert (mask.view(12, -1, 3).sum(2) == 1).all()
    if word in ("group", "column", "block:2x5"):  # the mask is one that the pattern can make
        assert torch.equal(pattern.mask(mask.float(), 1 - float(mask.float().mean()), gemm), mask)
    assert not updated[~mask].any()

    def error(new):
        change = (new - weight).view(groups, -1, 54)
        return float(torch.einsum("goi,gij,goj->", change, hessian, change))

    assert error(updated) < 0.95 * error(weight * mask)
    assert error(updated) < error(weight * reference)


def test_obs_says_when_inputs_cannot_be_inverted_and_stands_dead_inputs():
    element, gemm = PATTERNS.parse("element"), Gemm((4, 6))
    broken = torch.full((1, 6, 6), torch.nan)
    with pytest.raises(BadInput, match=r"net.fc: .*raise the criterion's damp"):
        CRITERIA.parse("obs").prune(
            random(4, 6), element, 0.5, gemm, Statistics("net.fc", 0, hessian=broken)
        )
    dead = torch.zeros(1, 6, 6)
    weight = random(4, 6)
    mask, updated = CRITERIA.parse("obs").prune(
        weight, element, 0.5, gemm, Statistics("net.fc", 0, hessian=dead)
    )
    assert int(mask.sum()) == 12
    assert torch.equal(updated, weight * mask)


@pytest.mark.parametrize("word", ["filter", "row", "layer", "block:2x8"])
def test_ranks_within_outputs_choose_no_outputs(word):
    pattern, layer = PATTERNS.parse(word), row("Linear")
    within = CRITERIA.parse({"kind": "wanda", "compare": "output"})
    misfit = within.misfit(layer, pattern)
    assert "all outputs score alike; compare: layer would fit" in misfit
    scores = within.scores(random(8, 8), Statistics("x", inputs=random(1, 8, seed=3).abs()))
    units = pattern.pool(scores, layer.gemm).flatten()
    assert torch.allclose(units, units[:1].expand_as(units)), "the premise of the refusal"
    assert CRITERIA.parse("wanda").misfit(layer, pattern) is None
    for other in ("element", "nm:2:4", "column", "block:2x4"):
        assert within.misfit(layer, PATTERNS.parse(other)) is None


def test_what_a_criterion_cannot_score_it_says_in_words():
    obs, wanda, taylor = (CRITERIA.parse(kind) for kind in ("obs", "wanda", "taylor"))
    assert "whole outputs" in obs.misfit(row("Conv2d"), PATTERNS.parse("filter"))
    assert obs.misfit(row("Conv2d"), PATTERNS.parse("nm:2:4")) is None
    assert "LSTM" in wanda.misfit(row("LSTM"))
    assert "LSTM" in obs.misfit(row("LSTM"), PATTERNS.parse("element"))
    assert taylor.misfit(row("LSTM"), PATTERNS.parse("filter")) is None
    with pytest.raises(ValueError, match=r"the inputs of a.b was not collected"):
        wanda.scores(random(2, 2), Statistics("a.b"))


def test_every_criterion_says_what_it_needs_and_where_it_is_from():
    import importlib

    for cls in CRITERIA:
        criterion = cls()
        assert bool(cls.needs) == hasattr(criterion, "samples"), cls.kind
        assert cls.label
        assert cls.summary()
        assert all(field.help for field in cls.fields()), cls.kind
        module = importlib.import_module(cls.__module__)
        assert module.__doc__, cls.kind
    ranks = [cls.rank for cls in CRITERIA]
    assert ranks == sorted(set(ranks))
    assert [cls.kind for cls in CRITERIA if cls.updates_weights] == ["obs"]
