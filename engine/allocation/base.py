"""What every allocation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..criteria import Criterion
from ..errors import BadInput
from ..gemm import Gemm
from ..settings import Family, Setting, setting

if TYPE_CHECKING:
    from torch import Tensor

    from ..patterns import Pattern

Scores = Callable[["slice | Tensor"], "Tensor"]
"""Gives the scores [len(at)] of the units at a slice or at an int64 tensor of indices."""


EMPTY: Mapping[str, Share] = MappingProxyType({})


@dataclass(frozen=True)
class Share:
    """One layer as an allocation sees it.

    `asked` is the sparsity of the layer's rule, `gemm` how its W is seen, `units()` computes the
    float32 mean scores of the pattern's units, `sizes` are their int64 sizes (None: all equal),
    `flops` the layer's operations on one sample, None where they are not known. `format` is the
    sparse format that the pattern packs into, `rows` says that its units are whole rows, and an
    entry takes `itemsize` bytes; of an N:M pattern `run` is M. `entries` gives the scores of a few
    units only, where a unit is a weight and its score depends on nothing else.
    """

    asked: float
    gemm: Gemm
    units: Callable[[], Tensor]
    sizes: Tensor | None = None
    flops: int | None = None
    format: str = "bitmap"
    rows: bool = False
    itemsize: int = 4
    run: int = 0
    entries: Scores | None = None

    @property
    def size(self) -> int:
        """Entries of W."""
        return self.gemm.stored_numel

    def most(self, floor: float) -> float:
        """The highest sparsity at which `floor` of the entries stay, in whole units."""
        if floor == 0:
            return 1.0
        if self.sizes is not None:
            # Units of unequal size are chosen to the nearest, up to half a unit too many.
            return max(0.0, 1 - floor - int(self.sizes.max()) / 2 / self.size)
        count = self.units().numel()
        return int((1 - floor) * count + 1e-9) / count


@dataclass(frozen=True)
class Allocation(Setting):
    """Turns what the rules ask for into one sparsity per layer; the total stays what was asked."""

    def misfit(self, criterion: Criterion, pattern: Pattern) -> str | None:
        """Why this cannot share out a layer's units, in words after its path; None if it can."""
        return None

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        """Return sparsity in [0, 1) by layer path, for the keys of `shares`.

        `settled` are layers whose pattern dictates what they ask for; they count towards a target.
        """
        raise NotImplementedError


ALLOCATIONS: Family[Allocation] = Family("allocation", __package__)


def whole_misfit(pattern: Pattern, kind: str) -> str | None:
    """Why an allocation with a target cannot take a pattern whose unit is the layer."""
    if not pattern.whole:
        return None
    return (
        f"goes or stays as a whole, in no measure that allocation {kind} could choose to reach its "
        "target; uniform would fit, with the rule's sparsity"
    )


def cannot_reach(what: str, smallest: float, floor: float) -> BadInput:
    """For a target that is out of reach; `smallest` is the share that is left at least."""
    kept = f" and a floor of {floor:g}" if floor else ""
    return BadInput(
        f"{what} cannot be reached with these patterns{kept}; the smallest is {smallest:.1%}"
    )


def floor_setting() -> float:
    """The field of an allocation that chooses for itself and could leave next to nothing."""
    made: float = setting(
        0.0, low=0.0, high=1.0, help="Least share of a layer's weights that stays; one unit always."
    )
    return made


def check_floor(shares: Mapping[str, Share], floor: float) -> None:
    """Raise BadInput where layers that all keep `floor` cannot lose what the rules ask for."""
    size = sum(share.size for share in shares.values())
    asked = sum(share.asked * share.size for share in shares.values())
    if asked > (1 - floor) * size + 1:
        raise BadInput(
            f"with a floor of {floor:g} at most {1 - floor:.1%} of the weights can go, and the "
            f"rules ask for {asked / size:.1%}; lower their sparsity or the floor"
        )
