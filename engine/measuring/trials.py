"""Masks to measure: those of a pruned model, or of one pattern at one sparsity by magnitude."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from ..allocation import Share
from ..allocation.whole import choose_layers
from ..criteria import CRITERIA
from ..dependencies import Channels
from ..gemm import Gemm
from ..masks import Masks
from ..models.model import Model
from ..patterns import Pattern


@dataclass
class Trial:
    """One set of masks: `labels` name each layer's pattern, `removes` says that outputs went.

    `winners` collects, by layer, the path of the sparse form that was faster than dense by itself
    and how to make it. `small` is the compacted model, once it is made.
    """

    masks: Masks
    labels: Mapping[str, str]
    removes: bool
    small: nn.Module | None = None
    winners: dict[str, tuple[str, Callable[[], nn.Module]]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The pattern of the whole model, ``"mixed"`` if it has several."""
        names = set(self.labels.values())
        return names.pop() if len(names) == 1 else "mixed"

    def kept(self, model: Model) -> float:
        """The share that is kept of the weights that a pattern could lie on."""
        layers = model.info.prunable
        sizes = {i.path: i.gemm.shape[0] * i.gemm.shape[1] for i in layers if i.gemm}
        gone = sum(sizes[path] * (1 - self.masks.density(path)) for path in self.masks.layers)
        return 1 - gone / max(sum(sizes.values()), 1)

    def digest(self) -> str:
        """SHA-256 of all that is kept."""
        total = hashlib.sha256()
        for path, mask in self.masks.layers.packed.items():
            total.update(f"{path} {mask.shape}".encode())
            total.update(mask.bits.cpu().numpy().data)
        for name, kept in self.masks.vectors.items():
            total.update(name.encode())
            total.update(kept.cpu().numpy().tobytes())
        return total.hexdigest()


def by_magnitude(
    model: Model,
    pattern: Pattern,
    sparsity: float,
    paths: list[str],
    channels: Channels,
    check: Callable[[], object],
) -> Trial:
    """One pattern on the layers at `paths`, with what goes along with removed outputs.

    `check` is called for each layer and may raise to stop.
    """
    masks = Masks()
    for path, share in _wanted(model, pattern, sparsity, paths).items():
        check()
        gemm = model.info.layer(path).gemm
        masks.layers[path] = pattern.mask(_scores(model, path), share, gemm)
        if pattern.removes:
            alive = masks.layers[path].any(dim=1)
            for name in channels.vectors(path):
                masks.vectors[name] = masks.vectors.get(name, alive) & alive
    return Trial(masks, dict.fromkeys(paths, word(pattern)), pattern.removes)


def as_pruned(masks: Masks, labels: Mapping[str, str]) -> Trial:
    """A pruned model's own masks; layers without a label are called by what they look like."""
    names = {p: labels.get(p) or _looks_like(mask) for p, mask in masks.layers.items()}
    return Trial(masks, names, removes=True)


def word(pattern: Pattern) -> str:
    """The pattern's short form, or its kind if it has settings beyond that."""
    plan = pattern.to_plan()
    return plan if isinstance(plan, str) else str(plan["kind"])


def _wanted(model: Model, pattern: Pattern, sparsity: float, paths: list[str]) -> dict[str, float]:
    """The same sparsity for every layer; 0 or 1 where layers go or stay as a whole."""
    if not pattern.whole:
        return dict.fromkeys(paths, sparsity)
    shares = {}
    for path in paths:
        scores = _scores(model, path)
        gemm = Gemm(tuple(scores.shape))
        shares[path] = Share(sparsity, gemm, partial(pattern.pool, scores, gemm))
    return choose_layers(shares)


def _scores(model: Model, path: str) -> Tensor:
    return CRITERIA.parse("magnitude").scores(model.matrix(path))


def _looks_like(mask: Tensor) -> str:
    """The pattern that a mask shows: whole columns, whole rows, both, or neither."""
    rows, columns = mask.any(dim=1), mask.any(dim=0)
    if not bool((mask == rows[:, None] & columns).all()):
        return "mask"
    if bool(rows.all()):
        return "group"
    return "filter" if bool(columns.all()) else "group, filter"
