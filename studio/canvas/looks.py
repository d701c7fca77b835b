"""What a person chose to see of the matrix, and the colours that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from ..look.theme import Theme
from . import colormaps
from .colormaps import Array

VIEWS = {
    "magnitude": "|w| mean",
    "peak": "|w| peak",
    "weight": "signed",
    "change": "change",
}
LEGENDS = {
    "magnitude": "mean |w|",
    "peak": "peak |w|",
    "weight": "mean w",
    "change": "mean |change|",
}
ONE_CELL = {"magnitude": "|w|", "peak": "|w|", "weight": "w", "change": "|change|"}


@dataclass(frozen=True)
class Look:
    """One way to paint a matrix.

    `mode` is "weights" or "mask", `view` a key of `VIEWS`, `over` whether pruned cells are gone
    from the picture, `colours` a name of `colormaps.MAPS`.
    """

    mode: str = "weights"
    view: str = "magnitude"
    over: bool = True
    colours: str = "cividis"

    def colour_map(self, theme: Theme) -> Array:
        """uint8 [256, 3] from lo to hi. Signed values have a map of their own, with a middle."""
        if self.view == "weight":
            return colormaps.diverging(theme)
        return colormaps.lookup(self.colours)

    def table(self, theme: Theme) -> Array:
        """Colours by density and value, as `colormaps.image` takes them."""
        if self.mode == "mask":
            return colormaps.kept(theme)
        colours = self.colour_map(theme)
        return colormaps.blended(colours, theme) if self.over else colormaps.solid(colours)
