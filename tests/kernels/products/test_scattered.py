"""Where entries lie by rows and by columns, and the layer and its gradients by that."""

from __future__ import annotations

import pytest
import torch
from doubles import TOLERANCE, drawn, near

from secateur.kernels import reference
from secateur.kernels.formats import ELL, NM, Entries
from secateur.kernels.modules.forms import FORMS, pack
from secateur.kernels.products.bitmap_tiles import BitmapTiles
from secateur.kernels.products.scattered import (
    Scattered,
    scattered_linear,
    scattered_linear_backward,
)

SHAPES = [(1, 1, 1), (13, 37, 3), (20, 136, 17), (9, 5, 0), (0, 5, 2), (5, 0, 2)]

pytestmark = pytest.mark.usefixtures("poisoned")


def scattered(out: int, ins: int, density: float) -> torch.Tensor:
    """A matrix with zeros anywhere; its second row is empty, its third full."""
    kept = torch.rand(out, ins, generator=torch.Generator().manual_seed(1)) < density
    kept[1:2], kept[2:3] = False, True
    return drawn(out, ins) * kept


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("out", "ins", "samples"), SHAPES)
def test_the_layer_and_its_gradients(backend, dtype, density, out, ins, samples):
    """The values lie backwards in a larger tensor, between others that only fill it up."""
    entries = Entries.of(scattered(out, ins, density).to(dtype))
    count = len(entries.values)
    places = 2 * torch.arange(count).flip(0)
    values = torch.full((max(1, count), 2), torch.nan, dtype=dtype)
    values.view(-1)[places] = entries.values
    where = Scattered.of(entries.rows, entries.columns, places, (out, ins))
    x, grad = drawn(ins, samples, seed=2).to(dtype).t(), drawn(samples, out, seed=3).to(dtype)
    bias = drawn(out, seed=4).to(dtype)
    on = backend.device
    moved = Scattered(*(part.to(on) for part in where))
    with backend.active():
        y = scattered_linear(moved, values.to(on), x.to(on), bias.to(on))
        by_x, by_values = scattered_linear_backward(moved, values.to(on), x.to(on), grad.to(on))
    dense = entries.to_dense()
    near(y, reference.linear(dense, x, bias), dtype)
    near(by_x, reference.linear(dense.t(), grad), dtype)
    sampled = reference.sampled_product(grad.t(), x.t(), entries.rows, entries.columns)
    assert by_values.shape == values.shape
    near(by_values.view(-1)[places.to(on)], sampled, dtype)
    filling = torch.ones(values.numel(), dtype=torch.bool)
    filling[places] = False
    assert not by_values.view(-1)[filling.to(on)].any()


def test_the_structure_is_that_of_the_matrix_and_of_its_transpose():
    matrix = scattered(7, 9, 0.4)
    entries, across = Entries.of(matrix), Entries.of(matrix.t())
    order = torch.arange(len(entries.values))
    where = Scattered.of(entries.rows, entries.columns, order, entries.shape)
    assert torch.equal(where.row_starts, entries.row_starts.int())
    assert torch.equal(entries.values[where.row_places], entries.values)
    assert torch.equal(where.column_starts, across.row_starts.int())
    assert torch.equal(where.column_rows, across.columns.int())
    assert torch.equal(entries.values[where.column_places], across.values)
    assert Scattered.among(where) is None
    found = Scattered.among([order, *where])
    assert found is not None
    assert all(one is other for one, other in zip(found, where, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (8, 128), (9, 129), (20, 300), (0, 5), (5, 0)])
def test_a_bitmap_knows_where_its_values_lie(shape):
    matrix = scattered(*shape, 0.3)
    tiles = BitmapTiles.from_dense(matrix)
    rows, columns = tiles.located()
    assert torch.equal(matrix[rows, columns], tiles.values)
    assert len(rows) == int(matrix.count_nonzero())


def test_what_fills_up_has_no_entry():
    matrix = torch.zeros(2, 5)
    matrix[0, 3] = 1
    for form, stored in (("ell", ELL.from_dense(matrix)), ("nm", NM.from_dense(matrix))):
        packed = pack(form, matrix)
        assert len(packed.values.flatten()) == len(stored.values.flatten()) > 1
        assert len(FORMS[form].transposes(packed)["row_places"]) == 1
