"""Layers that learn in CSR while their structure changes, against the dense ones they stand for."""

import pytest
import torch
from torch import nn

from secateur.kernels.formats import CSR, Entries
from secateur.kernels.growing.start import fresh
from secateur.kernels.modules.evolving import evolving
from secateur.kernels.selection.topology import evolve

LAYERS = {
    "linear": (nn.Linear(12, 9), (5, 12)),
    "linear without bias": (nn.Linear(12, 9, bias=False), (2, 3, 12)),
    "conv": (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 6, 6)),
    "conv with stride": (nn.Conv2d(3, 8, (3, 2), stride=2, dilation=(1, 2)), (2, 3, 9, 8)),
    "conv over a circle": (
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", bias=False),
        (2, 2, 5, 5),
    ),
    "conv of one dimension": (nn.Conv1d(4, 6, 5, padding="same"), (3, 4, 11)),
}


def pair(name, density=0.4):
    """A layer in CSR, the dense one with its weights, and an input."""
    dense, shape = LAYERS[name]
    matrix = dense.weight.detach().flatten(1)
    torch.manual_seed(0)
    stored = fresh(tuple(matrix.shape), round(density * matrix.numel()), torch.default_generator)
    layer = evolving(dense, stored)
    with torch.no_grad():
        dense.weight.copy_(stored.to_dense().view_as(dense.weight))
        if dense.bias is not None:
            dense.bias.zero_()
    return layer, dense, torch.randn(shape)


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_all_gradients_are_those_of_the_dense_layer(name):
    layer, dense, x = pair(name)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = layer(one), dense(other)
    assert torch.allclose(y, expected, atol=1e-5)
    grad = torch.randn_like(y)
    y.backward(grad)
    dense.weight.grad = None
    expected.backward(grad)
    assert torch.allclose(one.grad, other.grad, atol=1e-5)
    whole = dense.weight.grad.flatten(1)
    entries = layer.matrix.entries()
    assert torch.allclose(layer.values.grad, whole[entries.rows, entries.columns], atol=1e-4)
    # Rows of the whole gradient, of weights that are not there too, and the outputs' costs.
    rows = torch.tensor([3, 0])
    assert torch.allclose(layer.gradient_rows(x, grad, rows), whole[rows], atol=1e-4)
    channel = 1 if isinstance(dense, nn.Conv1d | nn.Conv2d) else -1
    assert torch.allclose(
        layer.costs(grad), grad.abs().movedim(channel, 0).flatten(1).sum(1), atol=1e-4
    )


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_parameter_stays_the_same_while_its_entries_change(kind):
    layer, _, x = pair("linear")
    values = layer.values
    optimizer = (
        torch.optim.SGD([values], 0.1, momentum=0.9)
        if kind == "sgd"
        else torch.optim.AdamW([values], 0.1)
    )
    layer(x).square().sum().backward()
    optimizer.step()
    before = layer.matrix
    empty = (before.to_dense() == 0).nonzero()[:5]
    grown = Entries(before.shape, empty[:, 0], empty[:, 1], torch.full((5,), 0.5))
    evolved = evolve(before, float(values.detach().abs().median()), grown)
    layer.replace(evolved.matrix)
    for name, state in optimizer.state[values].items():
        if state.shape == before.values.shape:
            optimizer.state[values][name] = evolved.carry(state)
    assert layer.values is values
    assert values.grad is None
    assert len(values) != len(before.values)
    x = x.clone().requires_grad_()
    layer(x).square().sum().backward()
    assert values.grad.shape == values.shape
    expected = x.detach().clone().requires_grad_()
    nn.functional.linear(expected, layer.matrix.to_dense(), layer.bias).square().sum().backward()
    assert torch.allclose(x.grad, expected.grad, atol=1e-4)
    optimizer.step()
    assert bool(torch.isfinite(values).all())


def test_a_state_of_another_structure_loads_and_is_not_shared():
    layer, dense, x = pair("conv")
    other = evolving(dense, fresh((8, 27), 50, torch.Generator().manual_seed(9)))
    state = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    layer.load_state_dict(state)
    assert torch.equal(layer(x), other(x))
    with torch.no_grad():
        layer.values.zero_()
    assert torch.equal(state["values"], other.values)


def test_another_shape_is_refused():
    layer, _, _ = pair("linear")
    other = evolving(nn.Linear(12, 8), fresh((8, 12), 40, torch.Generator()))
    with pytest.raises(ValueError, match="crow_indices has shape"):
        layer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="is no layer of"):
        layer.replace(other.matrix)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Embedding(4, 12), "Embedding is neither a linear layer nor a convolution"),
        (nn.Conv2d(4, 4, 3, groups=2), "only the grouped form"),
    ],
)
def test_other_modules_are_refused(module, words):
    matrix = CSR.from_dense(torch.eye(4, 18))
    with pytest.raises(ValueError, match=words):
        evolving(module, matrix)
