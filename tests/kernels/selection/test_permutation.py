"""The order of channels that N:M keeps most in, against all orders where they can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
import torch

from secateur.kernels.selection.permutation import kept, search
from secateur.kernels.selection.select import keep_n_of_m


def partitions(channels: tuple[int, ...], m: int) -> Iterator[list[int]]:
    """Every way to put channels into runs of m; the order inside and among runs does not matter."""
    if len(channels) <= m:
        yield list(channels)
        return
    first, *rest = channels
    for others in combinations(rest, m - 1):
        left = tuple(c for c in rest if c not in others)
        for tail in partitions(left, m):
            yield [first, *others, *tail]


def scores(rows: int, channels: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed)).abs()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("n", "m", "channels"), [(2, 4, 8), (1, 4, 8), (3, 4, 8), (1, 2, 8), (1, 3, 9), (2, 3, 6)]
)
def test_the_best_of_all_orders_is_found(n: int, m: int, channels: int, seed: int) -> None:
    matrix = scores(6, channels, seed)
    best = max(kept(matrix, n, m, torch.tensor(p)) for p in partitions(tuple(range(channels)), m))
    assert kept(matrix, n, m, search(matrix, n, m)) == pytest.approx(best, rel=1e-6)


def test_kept_is_what_the_mask_keeps() -> None:
    matrix, order = scores(5, 16, 1), torch.randperm(16, generator=torch.Generator().manual_seed(2))
    inside = matrix[:, order]
    mask = keep_n_of_m(inside, 2, 4)
    assert kept(matrix, 2, 4, order) == pytest.approx(float((inside * mask).sum()))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (4, 4), (5, 4)])
@pytest.mark.parametrize("channels", [1, 3, 8, 30, 64])
def test_an_order_holds_every_channel_once_and_keeps_no_less(n: int, m: int, channels: int) -> None:
    matrix = scores(20, channels, channels)
    order = search(matrix, n, m)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(channels))
    assert kept(matrix, n, m, order) >= kept(matrix, n, m)
    assert torch.equal(search(matrix, n, m), order)


def test_many_channels_and_rows_gain_too() -> None:
    matrix = scores(2100, 516, 3) * scores(1, 516, 4).square()
    order = search(matrix, 2, 4)
    assert torch.equal(order.sort().values, torch.arange(516))
    assert kept(matrix, 2, 4, order) > 1.01 * kept(matrix, 2, 4)


def test_channels_stay_within_their_head() -> None:
    matrix = scores(30, 48, 5)
    order = search(matrix, 2, 4, within=16)
    assert torch.equal(order // 16, torch.arange(48) // 16)
    assert kept(matrix, 2, 4, order) > kept(matrix, 2, 4)
    with pytest.raises(ValueError, match="cannot stay within 6"):
        search(matrix, 2, 4, within=6)


def test_rows_that_need_the_same_channels_get_them_apart() -> None:
    # Channels 0 to 3 are large in every row: together in one run two of them go, apart none does.
    matrix = torch.full((10, 16), 0.1)
    matrix[:, :4] = 1.0
    assert kept(matrix, 2, 4) == pytest.approx(10 * (2 + 6 * 0.1))
    assert kept(matrix, 2, 4, search(matrix, 2, 4)) == pytest.approx(10 * (4 + 4 * 0.1))
