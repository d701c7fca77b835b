"""Changes of a sparse topology by compiled loops: as torch's operations have them, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from secateur.kernels.compiled import growth, topology
from secateur.kernels.formats import CSR, bits
from secateur.kernels.growing import candidates
from secateur.kernels.growing.candidates import drawn, largest
from secateur.kernels.products import scattered
from secateur.kernels.selection import topology as selection
from secateur.kernels.selection.topology import evolve, put_in

OUT, INS = 67, 93


@pytest.fixture(params=["one thread", "several threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small, rows are shared out."""
    for module in (growth, topology):
        monkeypatch.setattr(module, "_WORTH_A_THREAD", 1 if "several" in request.param else 1 << 30)


def matrix(density: float = 0.3) -> CSR:
    generator = torch.Generator().manual_seed(1)
    kept = torch.rand(OUT, INS, generator=generator) < density
    kept[3] = False
    return CSR.from_mask(torch.randn(OUT, INS, generator=generator), kept)


def parts_of(exchange: selection.Evolved) -> Iterator[torch.Tensor]:
    yield from exchange.matrix.parts().values()
    yield exchange.sources


def results() -> list[torch.Tensor]:
    """What every operation makes of the same matrix."""
    stored = matrix()
    generator = torch.Generator().manual_seed(2)
    # Only a few sizes, so that many gradients are equal.
    gradient = torch.randint(-6, 7, (OUT, INS), generator=generator).float()
    left = evolve(stored, 0.4)
    rows = torch.randperm(OUT, generator=generator)[:40]
    found = []
    for grown in (
        largest(left.matrix, 150, lambda some: gradient[some].clone(), rows),
        largest(left.matrix, 2, lambda some: gradient[some].clone(), rows),
        drawn(left.matrix, 300, generator),
        drawn(left.matrix, 4000, generator),
    ):
        both = evolve(stored, 0.4, grown)
        assert all(map(torch.equal, parts_of(both), parts_of(put_in(left, grown))))
        found += [grown.rows, grown.columns, grown.values, *parts_of(both)]
        found.append(both.carry(torch.arange(len(stored.values))))
        found.append(both.carry(stored.values))
        crow, columns = both.matrix.indices32
        found += [
            *scattered.transposed(crow, columns, INS),
            bits.pack_structure(crow, columns, INS),
        ]
    return found


@pytest.mark.usefixtures("threads")
def test_with_and_without_the_compiler_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = results()
    for module in (candidates, selection, scattered, bits):
        monkeypatch.setattr(module, "ready", lambda: False)
    for one, other in zip(compiled, results(), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_of_equal_gradients_the_first_are_taken() -> None:
    nothing = CSR.from_dense(torch.zeros(16, 5))
    found = largest(nothing, 7, lambda rows: torch.ones(len(rows), 5), torch.arange(16).flip(0))
    assert found.rows.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert found.columns.tolist() == [0, 1, 2, 3, 4, 0, 1]
