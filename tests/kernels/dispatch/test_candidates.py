from __future__ import annotations

import copy

import pytest
import torch
from conv1d import Conv1D
from torch import Tensor, nn

from secateur.kernels.dispatch.candidates import EVERY, SPARSE, candidates
from secateur.kernels.dispatch.dispatcher import Dispatcher
from secateur.kernels.dispatch.question import question_of
from secateur.kernels.products.bitmap import reads_bits


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def scattered(out: int, ins: int, density: float) -> Tensor:
    return torch.rand(out, ins, generator=generator()) < density


def blocks(out: int, ins: int, side: int) -> Tensor:
    """A quarter of the blocks, some in each row and column."""
    places = torch.arange(out // side)[:, None] + torch.arange(ins // side)
    return (places % 4 == 0).repeat_interleave(side, 0).repeat_interleave(side, 1)


def rows(mask: Tensor) -> Tensor:
    mask[::3] = False
    return mask


def columns(mask: Tensor) -> Tensor:
    mask[:, ::3] = False
    return mask


def full(out: int, ins: int) -> Tensor:
    return torch.ones(out, ins, dtype=torch.bool)


def channels(count: int, places: int) -> Tensor:
    """Columns of whole channels."""
    return (torch.arange(count) % 2 == 0).repeat_interleave(places)


def patterns(out: int, ins: int) -> Tensor:
    """Two patterns, filter by filter; all columns are used by either."""
    return (torch.arange(ins) % 2)[None] == (torch.arange(out) % 2)[:, None]


LAYERS = {
    "linear": (lambda: nn.Linear(192, 128), (5, 192)),
    "Conv1D": (lambda: Conv1D(128, 192), (2, 5, 192)),
    "1 place": (lambda: nn.Conv2d(192, 128, 1), (2, 192, 4, 4)),
    "3 x 3": (lambda: nn.Conv2d(24, 96, 3, padding=1), (2, 24, 6, 6)),
    "1d": (lambda: nn.Conv1d(48, 128, 5, padding=2), (2, 48, 9)),
    "3d": (lambda: nn.Conv3d(16, 64, (2, 3, 3)), (1, 16, 4, 5, 5)),
    "2 groups": (lambda: nn.Conv2d(64, 64, 3, groups=2), (1, 64, 4, 4)),
}
GATHER, CHANNELS, OUTPUTS = "grouped (gather)", "grouped (channels)", "grouped (outputs)"
BITS = {"bitmap"} if reads_bits(torch.zeros(1, 1)) else set()
CASES = [
    ("linear", full(128, 192), set()),
    ("linear", columns(full(128, 192)), {GATHER}),
    ("linear", rows(full(128, 192)), {OUTPUTS}),
    ("linear", rows(columns(full(128, 192))), {GATHER, OUTPUTS}),
    ("linear", scattered(128, 192, 0.9), set()),
    ("linear", scattered(128, 192, 0.5), BITS),
    ("linear", scattered(128, 192, 0.35), {"CSR"} | BITS),
    ("linear", scattered(128, 192, 0.1), {"CSR"}),
    ("linear", rows(columns(scattered(128, 192, 0.1))), {GATHER, OUTPUTS, "CSR"}),
    ("linear", blocks(128, 192, 32), {"CSR", "BSR (32 x 32)"} | BITS),
    ("linear", blocks(128, 192, 8), {"CSR", "BSR (8 x 8)"} | BITS),
    ("Conv1D", columns(full(128, 192)), {GATHER}),
    ("Conv1D", scattered(128, 192, 0.1), {"CSR"}),
    ("1 place", scattered(128, 192, 0.2), {"CSR"}),
    ("1 place", columns(full(128, 192)), {CHANNELS}),
    ("3 x 3", columns(full(96, 216)), {GATHER}),
    ("3 x 3", full(96, 216) & channels(24, 9), {GATHER, CHANNELS}),
    ("3 x 3", scattered(96, 216, 0.3), set()),
    ("3 x 3", scattered(96, 216, 0.1), {"CSR"}),
    ("3 x 3", patterns(96, 216), {"kernel patterns"}),
    ("1d", columns(full(128, 240)), {GATHER}),
    ("1d", scattered(128, 240, 0.1), {"CSR"}),
    ("3d", full(64, 288) & channels(16, 18), {GATHER, CHANNELS}),
    ("3d", scattered(64, 288, 0.12), {"CSR"}),
    ("2 groups", columns(full(64, 288)), set()),
]


@pytest.mark.parametrize(("kind", "mask", "expected"), CASES, ids=lambda v: str(v)[:60])
def test_every_form_that_fits_computes_the_same(kind, mask, expected):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make().requires_grad_(False)
    matrix = layer.weight.t() if kind == "Conv1D" else layer.weight.view(mask.shape)
    matrix.mul_(mask)
    forms = candidates(layer)
    assert set(forms) == expected
    x = torch.randn(shape)
    for path, form in forms.items():
        assert isinstance(form, SPARSE), path
        torch.testing.assert_close(form(x), layer(x), rtol=1e-4, atol=1e-4)


def test_a_small_layer_is_left_alone_by_scattered_forms():
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight.mul_(scattered(64, 64, 0.1))
    assert not candidates(layer)


def test_a_convolution_may_have_fewer_weights_than_a_linear_layer():
    layer = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        layer.weight.view(16, -1).mul_(scattered(16, 144, 0.1))
    assert "CSR" in candidates(layer)


def test_layers_without_a_form_have_no_candidates():
    for layer in (nn.ReLU(), nn.LayerNorm(4), nn.Embedding(4, 4), nn.ConvTranspose2d(2, 2, 3)):
        assert not candidates(layer)
    empty = nn.Linear(4, 4)
    empty.weight = nn.Parameter(torch.empty(0, 4))
    assert not candidates(empty)


def test_an_empty_layer_has_forms_that_give_the_bias():
    layer = nn.Linear(256, 256).requires_grad_(False)
    layer.weight.zero_()
    x = torch.randn(3, 256)
    for form in candidates(layer).values():
        torch.testing.assert_close(form(x), layer(x))


def test_forms_are_made_when_they_are_looked_up():
    layer = nn.Linear(256, 256).requires_grad_(False)
    layer.weight.mul_(columns(full(256, 256)))
    forms = candidates(layer)
    assert list(forms) == ["grouped (gather)"]
    first = forms["grouped (gather)"]
    assert first is not forms["grouped (gather)"]
    with pytest.raises(KeyError):
        forms["CSR"]


def test_a_model_with_conv1d_is_accelerated():
    torch.manual_seed(0)
    model = nn.Sequential(Conv1D(512, 512), nn.GELU(), Conv1D(8, 512)).eval()
    with torch.no_grad():
        model[0].weight[torch.arange(512) % 16 != 0] = 0
    x = torch.randn(4, 64, 512)
    fast, choices = Dispatcher(seconds=0.02).accelerate(copy.deepcopy(model), (x,), {})
    assert set(choices) == {"0"}
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert question_of(model[0], x)["zeros"]["columns"] == 32


def test_forms_that_are_known_to_lose_are_offered_on_request():
    small, large = nn.Linear(32, 32), nn.Linear(256, 256)
    with torch.no_grad():
        small.weight[~scattered(32, 32, 0.1)] = 0
        large.weight[~scattered(256, 256, 0.7)] = 0
    for layer in (small, large):
        assert "CSR" not in candidates(layer)
        x = torch.randn(3, layer.in_features)
        found = candidates(layer, EVERY)
        assert "CSR" in found
        for form in found.values():
            torch.testing.assert_close(form(x), layer(x), rtol=1e-4, atol=1e-5)
