"""The order of input channels in which N:M pruning keeps most.

Channels are put into runs of M so that each row's large scores spread evenly over the runs (Pool &
Yu, Channel Permutations for N:M Sparsity, 2021). From the order as it is, pairs of channels of two
runs are exchanged as long as that keeps more. Then a tabu search (Glover 1989) goes on: the best
exchange is made even if it keeps less, and channels that have just moved rest for a while. What a
run would keep with any other channel in any of its places is known from one table of sums, so
that all exchanges are judged at once.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .permutation_search import larger_sums

_TOGETHER = 512
_ROWS = 2048
_STEPS = 500
_WORK = 1 << 29
_RESTS = 3, 6
_LEAST_GAIN = 1e-5

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


def kept(scores: Tensor, n: int, m: int, order: Tensor | None = None) -> float:
    """The sum of the scores [rows, channels] >= 0 that N:M keeps with the channels in `order`."""
    if order is not None:
        scores = scores[:, order.to(scores.device)]
    padded = torch.nn.functional.pad(scores.float(), (0, -scores.shape[1] % m))
    runs = padded.reshape(len(scores), -1, m)
    return float(runs.topk(min(n, m), dim=2).values.sum(dtype=torch.float64))


def search(scores: Tensor, n: int, m: int, seed: int = 0, within: int | None = None) -> Tensor:
    """Return int64 [channels] on the CPU: place j of the new order holds the channel ``order[j]``.

    `scores` is float [rows, channels], >= 0. Channels stay within their `within` consecutive ones,
    a multiple of `m`; without it they may go anywhere. Never keeps less than the order as it is.
    The same arguments give the same order.

    Time goes with rows · channels² up to 512 channels and 2,048 rows. Of more rows a part is drawn;
    more channels are drawn into groups that exchange among themselves. Raises ValueError for a
    `within` that does not fit.
    """
    count = scores.shape[1]
    within = within or count
    if count % within or (within < count and within % m):
        raise ValueError(f"{count} channels cannot stay within {within} and form runs of {m}")
    order = np.arange(count)
    random = np.random.default_rng(seed)
    drawn = np.sort(random.permutation(len(scores))[:_ROWS])
    rows = scores.detach()[torch.from_numpy(drawn).to(scores.device)]
    columns = rows.float().t().contiguous()
    for start in range(0, count if m > n else 0, within):
        for group in _groups(within, m, random):
            places = start + group
            order[places] = places[_Search(columns[torch.from_numpy(places)], n, m).best(random)]
    found = torch.from_numpy(order)
    return found if kept(scores, n, m, found) > kept(scores, n, m) else torch.arange(count)


def _groups(count: int, m: int, random: np.random.Generator) -> list[Indices]:
    """Whole runs of `m` places [0, count), at most `_TOGETHER` in a group; one is all of them."""
    runs = -(-count // m)
    groups = -(-count // _TOGETHER)
    drawn = random.permutation(runs) if groups > 1 else np.arange(runs)
    parts = [np.sort(part)[:, None] * m + np.arange(m) for part in np.array_split(drawn, groups)]
    return [part[part < count] for part in parts]


class _Search:
    """Exchanges among the channels `columns` [channels, rows]."""

    def __init__(self, columns: Tensor, n: int, m: int) -> None:
        self._free = len(columns)
        # A last run that is not full is filled with zeros, which stay where they are.
        columns = torch.nn.functional.pad(columns, (0, 0, 0, -len(columns) % m))
        self._columns, self._n, self._m = columns, n, m
        self._order = np.arange(len(columns))
        runs = len(columns) // m
        self._kept = np.zeros(runs, np.float32)
        # What a place's run would keep with another channel (across) in that place (down).
        self._instead = np.zeros((len(columns), len(columns)), np.float32)
        self._renew(np.arange(runs))
        self._least = _LEAST_GAIN * float(self._kept.sum()) / runs

    def best(self, random: np.random.Generator) -> Indices:
        """The best order found."""
        best, order = self._total(), self._order.copy()
        while pairs := self._better():
            self._exchange(pairs)
            if self._total() <= best:
                break  # what is left to gain is rounding
            best, order = self._total(), self._order.copy()
        step_cost = len(self._columns) * (2 * self._m * self._columns.shape[1] + len(self._columns))
        rests_until = np.zeros(len(self._columns), np.int64)
        for step in range(min(_STEPS, len(rests_until) ** 2, _WORK // step_cost)):
            # The best exchange is made even if it keeps less. Channels that have just moved stay
            # for a while, so that it does not go back, unless moving them is better than the best.
            gains = self._gains()
            rests = rests_until[self._order] > step
            allowed = ~(rests[:, None] | rests) | (gains > best - self._total() + self._least)
            one, two = divmod(int(np.where(allowed, gains, -np.inf).argmax()), len(gains))
            if not (allowed[one, two] and np.isfinite(gains[one, two])):
                continue  # all rest
            self._exchange([(one, two)])
            rests_until[self._order[[one, two]]] = step + 1 + random.integers(*_RESTS, 2)
            if self._total() > best:
                best, order = self._total(), self._order.copy()
        return order[: self._free]

    def _total(self) -> float:
        return float(self._kept.sum(dtype=np.float64))

    def _gains(self) -> Floats:
        """What is kept more after exchanging two places [places, places]; -inf where they can't."""
        m = self._m
        runs = np.arange(len(self._kept))
        gains = self._instead[:, self._order] - np.repeat(self._kept, m)[:, None]
        gains += gains.T
        gains.reshape(len(runs), m, len(runs), m)[runs, :, runs] = -np.inf
        gains[self._free :] = -np.inf
        gains[:, self._free :] = -np.inf
        return gains

    def _better(self) -> list[tuple[int, int]]:
        """Pairs of places whose exchange keeps more, the best first, no run in two of them."""
        gains = self._gains()
        partner = gains.argmax(1)
        gain = gains[np.arange(len(gains)), partner]
        used = np.zeros(len(self._kept), np.bool_)
        pairs = []
        for place in np.argsort(-gain, kind="stable"):
            if gain[place] <= self._least:
                break
            one, two = place // self._m, partner[place] // self._m
            if not (used[one] or used[two]):
                used[one] = used[two] = True
                pairs.append((int(place), int(partner[place])))
        return pairs

    def _exchange(self, pairs: list[tuple[int, int]]) -> None:
        one, two = np.array(pairs, np.int64).reshape(-1, 2).T
        self._order[one], self._order[two] = self._order[two], self._order[one]
        self._renew(np.unique(np.concatenate([one, two]) // self._m))

    def _renew(self, runs: Indices) -> None:
        """Set what is known of `runs` anew.

        With x in the place of one of its channels a run keeps, in each row, the n - 1 highest of
        the others and the larger of x and the n-th highest.
        """
        n, m = self._n, self._m
        places = (runs[:, None] * m + np.arange(m)).reshape(-1)
        inside = self._columns[torch.from_numpy(self._order[places])].view(len(runs), m, -1)
        ranked = inside.sort(dim=1, descending=True).values
        whole = ranked[:, :n].sum(1, keepdim=True)
        last, first_lost = ranked[:, n - 1 : n], ranked[:, n : n + 1]
        is_kept = inside >= last
        limit = torch.where(is_kept, first_lost, last).flatten(0, 1)
        fixed = (whole - torch.where(is_kept, inside, last)).flatten(0, 1)
        larger = larger_sums(limit, self._columns)
        self._instead[places] = (larger + fixed.sum(1, keepdim=True)).cpu().numpy()
        self._kept[runs] = whole.sum((1, 2)).cpu().numpy()
