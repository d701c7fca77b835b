from __future__ import annotations

import copy
import io
import re

import pytest
import torch
from conv1d import Conv1D
from torch import nn

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.forms import FORMS
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.reduced import ReducedLayer

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
LINEAR_FORMS = [name for name in FORMS if name != "two_four"]
CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 11)),
    "2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 0), dilation=2), (2, 4, 9, 8)),
    "2d, one place": (nn.Conv2d(4, 6, 1, stride=2, bias=False), (3, 4, 5, 6)),
    "2d, reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (1, 4, 6, 5)),
    "2d, same": (nn.Conv2d(4, 6, (2, 4), padding="same"), (2, 4, 6, 5)),
    "3d": (nn.Conv3d(4, 6, (1, 3, 2), padding=(0, 1, 1)), (1, 4, 3, 5, 4)),
}


def with_zeros(layer: nn.Module, transposed: bool = False) -> nn.Module:
    """2:4, scattered, a column, a row and a channel gone: every form has its part."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        matrix = layer.weight.t() if transposed else layer.weight.view(len(layer.weight), -1)
        generator = torch.Generator().manual_seed(0)
        matrix[:, 2::4] = matrix[:, 3::4] = 0
        matrix[torch.rand(matrix.shape, generator=generator) < 0.2] = 0
        matrix[3] = 0
        matrix[:, -1] = 0
        if layer.weight.dim() > 2:
            layer.weight[:, 1] = 0
    return layer


def settings(form: str) -> dict[str, int]:
    return {"block": 2} if form == "bsr" else {}


@pytest.mark.parametrize("form", LINEAR_FORMS)
@pytest.mark.parametrize("kind", ["linear", "no bias", "Conv1D"])
def test_a_linear_layer_forward_and_backward(form, kind):
    dense = Conv1D(6, 10) if kind == "Conv1D" else nn.Linear(10, 6, bias=kind == "linear")
    dense = with_zeros(dense, kind == "Conv1D")
    sparse = SparseLinear.from_dense(dense, form, trainable=True, **settings(form))
    for batch in ((), (1,), (3,), (2, 3)):
        compare(sparse, dense, torch.randn(*batch, 10))
    with torch.no_grad():
        x = torch.randn(4, 20)[:, ::2]
        torch.testing.assert_close(sparse(x), dense(x))
        sparse.values.mul_(2)  # what is unpacked for the CPU must follow
        bias = 0 if sparse.bias is None else dense.bias
        torch.testing.assert_close(sparse(x), 2 * dense(x) - bias)


@pytest.mark.parametrize("form", LINEAR_FORMS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_forward_and_backward(form, kind):
    layer, shape = CONVOLUTIONS[kind]
    dense = with_zeros(layer)
    sparse = SparseConv.from_dense(dense, form, trainable=True, **settings(form))
    compare(sparse, dense, torch.randn(shape))
    with torch.no_grad():
        x = torch.randn(shape)
        torch.testing.assert_close(sparse(x), dense(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(sparse(x[0]), dense(x[0]), atol=1e-5, rtol=1e-4)
        if x.dim() == 4:
            last = x.to(memory_format=torch.channels_last)
            torch.testing.assert_close(sparse(last), dense(x), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("form", LINEAR_FORMS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_on_each_backend(form, kind, backend):
    layer, shape = CONVOLUTIONS[kind]
    dense = with_zeros(layer)
    sparse = SparseConv.from_dense(dense, form, trainable=True, **settings(form))
    dense, sparse = dense.to(backend.device), sparse.to(backend.device)
    x = torch.randn(shape, device=backend.device)
    given, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted = dense(same)
    wanted.square().sum().backward()
    with backend.active():
        found = sparse(given)
        found.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(sparse(x), wanted.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(given.grad, same.grad, atol=1e-4, rtol=1e-4)


OPTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": (1, 3), "padding": (0, 1), "stride": (2, 1)},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "stride": 3},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "dilation": (2, 1)},
]


@pytest.mark.parametrize("form", ["grouped", "csr", "reduced"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_convolutions_of_all_kinds_in_both_memory_formats(form, options, density):
    torch.manual_seed(0)
    dense = nn.Conv2d(6, 9, **options).requires_grad_(False)
    kept = torch.rand(dense.weight[0].shape, generator=torch.Generator().manual_seed(2)) < density
    kept.view(-1)[0] = True
    dense.weight.mul_(kept)
    reduced = form == "reduced"
    sparse = ReducedLayer.from_dense(dense) if reduced else SparseConv.from_dense(dense, form)
    for size in ((13, 10), (7, 12), (13, 10)):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(3, 6, *size).to(memory_format=memory_format)
            torch.testing.assert_close(sparse(x), dense(x), rtol=1e-4, atol=1e-5)


def test_groups_of_a_convolution_share_the_kept_positions():
    dense = nn.Conv2d(4, 6, 3, groups=2)
    with torch.no_grad():
        dense.weight.view(6, -1)[:, ::3] = 0
    compare(SparseConv.from_dense(dense, trainable=True), dense, torch.randn(2, 4, 6, 6))
    with pytest.raises(ValueError, match="2 groups has only the grouped form"):
        SparseConv.from_dense(dense, "csr")


def compare(sparse: nn.Module, dense: nn.Module, x: torch.Tensor) -> None:
    """The same outputs, and the same gradients by input and bias, and by what is kept."""
    sparse.zero_grad()
    dense.zero_grad()
    given, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, wanted = sparse(given), dense(same)
    weights = torch.randn(wanted.shape)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(given.grad, same.grad, atol=1e-4, rtol=1e-4)
    if getattr(dense, "bias", None) is not None:
        torch.testing.assert_close(sparse.bias.grad, dense.bias.grad, atol=1e-4, rtol=1e-4)
    # A step along the values' gradient is a step of the kept weights along theirs.
    with torch.no_grad():
        moved = copy.deepcopy(sparse)
        moved.values.sub_(sparse.values.grad)
        stepped = copy.deepcopy(dense)
        kept = dense.weight != 0
        if sparse.form in {"bsr", "grouped"}:
            basis = copy.deepcopy(sparse)
            basis.values.fill_(1)
            kept = kept | (weight_of(basis, dense) != 0)
        stepped.weight.sub_(dense.weight.grad * kept)
        torch.testing.assert_close(moved(x), stepped(x), atol=1e-3, rtol=1e-3)


def weight_of(sparse: nn.Module, dense: nn.Module) -> torch.Tensor:
    """What a sparse layer's weight is, in the dense layer's shape, read off its outputs."""
    ins = sparse.sizes[1]
    matrix = sparse.multiply(torch.eye(ins)) - sparse.multiply(torch.zeros(1, ins))
    return (matrix if isinstance(dense, Conv1D) else matrix.t()).reshape(dense.weight.shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("form", LINEAR_FORMS)
def test_other_dtypes_after_the_fact(form, dtype):
    dense = with_zeros(nn.Linear(16, 8))
    sparse = SparseLinear.from_dense(dense, form, **settings(form))
    x = torch.randn(3, 16)
    sparse(x)
    converted = sparse.to(dtype)
    found = converted(x.to(dtype))
    assert found.dtype == dtype
    wanted = dense(x)
    assert (found.float() - wanted).norm() <= 0.02 * wanted.norm()


@pytest.mark.parametrize("form", LINEAR_FORMS)
def test_layers_save_load_copy_move_and_pickle(form):
    for dense, kind, x in (
        (nn.Linear(10, 6), SparseLinear, torch.randn(3, 10)),
        (nn.Conv2d(4, 6, 3), SparseConv, torch.randn(3, 4, 6, 6)),
    ):
        first = kind.from_dense(with_zeros(dense), form, trainable=True, **settings(form))
        doubled = copy.deepcopy(dense)
        with torch.no_grad():
            doubled.weight.mul_(2)
        other = kind.from_dense(with_zeros(doubled), form, trainable=True, **settings(form))
        with torch.no_grad():
            wanted = first(x)
            assert not torch.allclose(other(x), wanted)
            other.load_state_dict(first.state_dict())
            torch.testing.assert_close(other(x), wanted)
            torch.testing.assert_close(copy.deepcopy(first)(x), wanted)
            file = io.BytesIO()
            torch.save(first, file)
            file.seek(0)
            torch.testing.assert_close(torch.load(file, weights_only=False)(x), wanted)
        assert first.to("meta")(x.to("meta")).shape == wanted.shape


def test_the_structure_does_not_learn_and_nothing_does_unless_asked():
    dense = with_zeros(nn.Linear(10, 6))
    fixed = SparseLinear.from_dense(dense)
    assert not any(parameter.requires_grad for parameter in fixed.parameters())
    assert not fixed(torch.randn(2, 10)).requires_grad
    learning = SparseLinear.from_dense(dense, trainable=True)
    assert {name for name, _ in learning.named_parameters()} == {"values", "bias"}


def test_layers_name_their_form_shape_and_density():
    dense = nn.Linear(8, 4)
    with torch.no_grad():
        dense.weight.zero_()
        dense.weight[:, ::4] = 1
    assert repr(SparseLinear.from_dense(dense, "nm", n=1, m=4)) == (
        "SparseLinear(nm 1:4, 8 -> 4, density=0.25, bias=True)"
    )
    conv = SparseConv.from_dense(nn.Conv2d(2, 3, 3, stride=2))
    assert repr(conv) == (
        "SparseConv(grouped, 18 -> 3, density=1, bias=True, kernel=(3, 3), stride=(2, 2), groups=1)"
    )


@pytest.mark.parametrize("form", LINEAR_FORMS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_empty_and_full_layers(form, share):
    dense = nn.Linear(8, 4)
    with torch.no_grad():
        dense.weight.mul_(share)
    sizes = {"nm": {"n": 4, "m": 4}, "bsr": {"block": 4}}.get(form, {})
    for trainable in (False, True):
        sparse = SparseLinear.from_dense(dense, form, trainable=trainable, **sizes)
        x = torch.randn(3, 8, requires_grad=trainable)
        y = sparse(x)
        torch.testing.assert_close(y, dense(x))
        assert sparse(x[:0]).shape == (0, 4)
        if trainable:
            y.sum().backward()
            torch.testing.assert_close(x.grad, dense.weight.sum(dim=0).expand(3, 8))


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, "linear", "Conv1D"])
def test_a_reduced_layer_computes_the_same(kind):
    layer, shape = {
        **CONVOLUTIONS,
        "linear": (nn.Linear(10, 6), (2, 3, 10)),
        "Conv1D": (Conv1D(6, 10), (3, 10)),
    }[kind]
    dense = with_zeros(layer, kind == "Conv1D")
    small = ReducedLayer.from_dense(dense)
    assert len(small.outputs) == 5
    if kind in CONVOLUTIONS:
        assert 1 not in small.inputs.tolist()
    x = torch.randn(shape)
    torch.testing.assert_close(small(x), dense(x), atol=1e-5, rtol=1e-4)
    if kind in CONVOLUTIONS:
        torch.testing.assert_close(small(x[0]), dense(x[0]), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        dense.weight.zero_()
    with pytest.raises(ValueError, match="nothing is kept"):
        ReducedLayer.from_dense(dense)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="ReLU is no linear layer"):
        SparseLinear.from_dense(nn.ReLU())
    with pytest.raises(ValueError, match="Linear is no convolution"):
        SparseConv.from_dense(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="ConvTranspose2d is no convolution"):
        SparseConv.from_dense(nn.ConvTranspose2d(2, 2, 3))
    with pytest.raises(ValueError, match="no smaller dense form"):
        ReducedLayer.from_dense(nn.Conv2d(4, 4, 3, groups=2))


def test_a_convolution_remembers_how_to_go_about_a_few_sizes():
    layer = nn.Conv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
        small = SparseConv.from_dense(layer)
        images = [torch.randn(1, 4, 8, 6 + more) for more in range(12)]
        plans = [small.plan(x) for x in images]
        assert small.plan(images[-1]) is plans[-1]
        assert small.plan(images[0]) is not plans[0]
        for x in images:
            torch.testing.assert_close(small(x), layer(x))
        before = small.plan(images[-1])
        small.kept.add_(0)
        assert small.plan(images[-1]) is not before


@pytest.mark.parametrize(("form", "x", "words"), [
    ("csr", torch.ones(3, 5), "takes 8 features, not an input [3, 5]"),
    ("grouped", torch.tensor(1.0), "takes 8 features, not an input []"),
    ("csr", torch.ones(3, 8, dtype=torch.float64), "float32, its input torch.float64"),
])  # fmt: skip
def test_a_linear_layer_refuses_inputs_that_do_not_fit(form, x, words):
    layer = SparseLinear.from_dense(nn.Linear(8, 4), form)
    with pytest.raises(ValueError, match=re.escape(words)):
        layer(x)


@pytest.mark.parametrize("form", ["csr", "grouped"])
@pytest.mark.parametrize("channels", [3, 5])
def test_a_convolution_refuses_other_channels(form, channels):
    layer = SparseConv.from_dense(nn.Conv2d(4, 6, 3), form)
    with pytest.raises(ValueError, match="takes 4 channels, not an input"):
        layer(torch.ones(1, channels, 8, 8))
