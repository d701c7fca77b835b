"""The lowest of many tensors together, against the plain definition by a stable sort."""

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.cuda.launch import launching
from secateur.kernels.formats.bits import pack_bits
from secateur.kernels.selection import radix_select
from secateur.kernels.selection.radix_select import lowest_of_all, lowest_of_all_cuda

pytestmark = pytest.mark.usefixtures("poisoned")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_ties(*shape: int) -> torch.Tensor:
    return (random(*shape) * 2).round() / 2


def same(found, expected) -> bool:
    return all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("make", [random, with_ties])
def test_scores_as_they_are(backend, dtype, make):
    scores = make(37, 29).to(dtype)
    for count in (1, 300, 1000, 1072):
        with backend.active():
            found = lowest_of_all([scores.to(backend.device)], count)
        assert same(found, reference.lowest([scores], count)), count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sizes_of_several_tensors_of_which_one_is_empty(backend, dtype):
    weights = [with_ties(5, 7), random(64, 33), torch.zeros(0, 4), torch.zeros(3), with_ties(41)]
    weights = [weight.to(dtype) for weight in weights]
    scores = [weight.abs() for weight in weights]
    device = [weight.to(backend.device) for weight in weights]
    for count in (1, 3, 20, 1000, 2190):
        with backend.active():
            found = lowest_of_all(device, count, score="magnitude")
            stays = lowest_of_all(device, count, score="magnitude", keep=True)
            packed = lowest_of_all(device, count, score="magnitude", packed=True)
            left = lowest_of_all(device, count, score="magnitude", packed=True, keep=True)
        expected = reference.lowest(scores, count)
        kept = [~mask for mask in expected]
        assert same(found, expected), count
        assert same(stays, kept), count
        assert same(packed, [pack_bits(mask) for mask in expected]), count
        assert same(left, [pack_bits(mask) for mask in kept]), count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_products(backend, dtype):
    weights = [random(30, 11).to(dtype), with_ties(50).to(dtype)]
    gradients = [random(30, 11, seed=1).to(dtype), with_ties(50).flip(0).to(dtype)]
    scores = [(w.float() * g.float()).abs() for w, g in zip(weights, gradients, strict=True)]
    for count in (17, 200):
        with backend.active():
            found = lowest_of_all(
                [w.to(backend.device) for w in weights],
                count,
                [g.to(backend.device) for g in gradients],
                score="product",
            )
        assert same(found, reference.lowest(scores, count)), count


def test_odd_values_and_places(backend):
    tiny = torch.finfo(torch.float32).smallest_normal
    scores = torch.tensor([0.0, -0.0, tiny / 2, -tiny / 4, torch.inf, -torch.inf, 1, -1, 0.0, 3e38])
    scores = scores.repeat(5)
    strided = torch.stack([scores, scores], 1)[:, 0]
    shifted = torch.cat([torch.zeros(1), scores])[1:]
    for count in range(1, 50, 7):
        with backend.active():
            for given in (scores, strided, shifted, strided.view(5, 10).t()):
                found = lowest_of_all([given.to(backend.device)], count)
                assert same(found, reference.lowest([given], count))


def test_all_or_none(backend):
    weights = [random(5, 3).to(backend.device), random(9).to(backend.device)]
    with backend.active():
        assert not any(mask.any() for mask in lowest_of_all(weights, 0))
        assert all(mask.all() for mask in lowest_of_all(weights, 24))
        packed = lowest_of_all(weights, 24, packed=True)
        assert lowest_of_all([], 0) == []
    assert [bits.tolist() for bits in packed] == [[255, 127], [255, 1]]


@pytest.fixture
def dense_sample(monkeypatch):
    """One entry in four, so that the sample of a small tensor says something."""
    monkeypatch.setattr(radix_select, "_SPARSEST_SAMPLE", 4)


KERNELS = ["emulated", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
@pytest.mark.parametrize("threads", [32, 96])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("sample_from", [1, 1000])
def test_ties_over_many_chunks(backend, threads, keep, sample_from, dense_sample):
    weights = [with_ties(700), torch.ones(90), with_ties(13, 31), torch.zeros(64)]
    device = [weight.to(backend.device) for weight in weights]
    for count in (40, 400, 1250):
        with backend.active():
            found = lowest_of_all_cuda(
                device,
                count,
                score="magnitude",
                keep=keep,
                chunk=64,
                threads=threads,
                sample_from=sample_from,
            )
        expected = reference.lowest([weight.abs() for weight in weights], count)
        assert same(found, [mask ^ keep for mask in expected]), count


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("score", ["given", "magnitude", "product"])
def test_a_sample_leaves_few_to_look_at(backend, dtype, score, dense_sample):
    weights = [random(90, 70).to(dtype), random(3000, seed=1).to(dtype)]
    others = [random(90, 70, seed=2).to(dtype), random(3000, seed=3).to(dtype)]
    scores = {
        "given": weights,
        "magnitude": [weight.abs() for weight in weights],
        "product": [(w.float() * g.float()).abs() for w, g in zip(weights, others, strict=True)],
    }[score]
    for count in (1, 2000, 6000, 9299):
        with backend.active():
            found = lowest_of_all_cuda(
                [weight.to(backend.device) for weight in weights],
                count,
                [other.to(backend.device) for other in others] if score == "product" else None,
                score=score,
                chunk=256,
                threads=64,
                sample_from=1,
            )
        assert same(found, reference.lowest(scores, count)), count


def test_what_a_sample_leaves_is_all_that_is_counted(emulate, dense_sample):
    between = []

    def watch(source, function, grid, block, args, variant, shared):
        emulate._launch(source, function, grid, block, args, variant, shared)
        if function == "radix_collect":
            between.extend(args[6].tolist())

    with launching(watch):
        lowest_of_all_cuda([random(100, 100)], 5000, chunk=256, threads=64, sample_from=1)
    below, inside, full = between
    assert 0 < below <= 4999 < below + inside < 7500
    assert full == 0


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_a_sample_that_is_wrong(backend):
    # One entry in 256 is seen, and all but a handful are larger than those that are wanted.
    weight = random(60_000).abs() + 1
    weight[::9973] = random(7) / 100
    for count in (3, 7, 8, 59_999):
        with backend.active():
            found = lowest_of_all_cuda(
                [weight.to(backend.device)], count, chunk=4096, threads=64, sample_from=1
            )
        assert same(found, reference.lowest([weight], count)), count


def test_what_cannot_be_chosen_is_refused():
    weights = [torch.rand(3)]
    with pytest.raises(ValueError, match="cannot choose 4 of 3"):
        lowest_of_all(weights, 4)
    with pytest.raises(ValueError, match="no score 'best'"):
        lowest_of_all(weights, 1, score="best")
    with pytest.raises(ValueError, match="of one tensors each"):
        lowest_of_all(weights, 1, score="product")
    with pytest.raises(ValueError, match="differ in their shapes"):
        lowest_of_all(weights, 1, [torch.rand(4)], score="product")
