"""Layers that go or stay as a whole: which of them, for a share of their weights."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Share


def choose_layers(shares: Mapping[str, Share], all_may_go: bool = False) -> dict[str, float]:
    """Return 1.0 for the layers that go and 0.0 for those that stay, by path.

    Each share has one unit. The lowest scores go until the weights that have gone are nearest to
    what the shares ask for together; the highest one stays unless `all_may_go`.
    """
    import torch

    from ...kernels.selection.select import lowest_by_size

    if not shares:
        return {}
    scores = torch.stack([share.units().reshape(()).float().cpu() for share in shares.values()])
    sizes = torch.tensor([share.size for share in shares.values()])
    gone = lowest_by_size(scores, sizes, sum(s.asked * s.size for s in shares.values()))
    if bool(gone.all()) and not all_may_go:
        # Ties prune the lower index first, so the best of equals is the last one.
        gone[len(gone) - 1 - int(scores.flip(0).argmax())] = False
    return {path: float(flag) for path, flag in zip(shares, gone.tolist(), strict=True)}
