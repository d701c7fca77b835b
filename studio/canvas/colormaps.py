"""Colour maps as lookup tables, and tables that blend pruned cells into the background."""

from __future__ import annotations

from typing import Any

import numpy as np
from PySide6.QtGui import QColor, QImage

from ..look.theme import Theme

Array = np.ndarray[Any, np.dtype[Any]]

MAPS = ("cividis", "viridis", "grey")
_ANCHORS = {
    # Nuñez, Anderton, Renslow 2018: even in lightness, the same for colour-blind people.
    "cividis": ((0, 32, 77), (49, 68, 107), (102, 105, 112), (149, 143, 120),
                (203, 186, 105), (255, 233, 69)),
    "viridis": ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132),
                (122, 209, 81), (253, 231, 37)),
    "grey": ((38, 38, 38), (242, 242, 242)),
}  # fmt: skip
_SIGNS = {True: ((64, 150, 230), (240, 165, 50)), False: ((18, 84, 160), (176, 92, 0))}


def lookup(name: str) -> Array:
    """The map `name` of `MAPS` as uint8 [256, 3], from small to large values."""
    return _between(_ANCHORS[name])


def diverging(theme: Theme) -> Array:
    """Blue below zero, amber above, the quiet ground at zero: uint8 [256, 3]."""
    below, above = _SIGNS[theme.dark]
    return _between((below, _rgb(pruned(theme)), above))


def pruned(theme: Theme) -> str:
    """What is left of a pruned cell: barely more than the background, so that W has an outline."""
    return theme.mix(theme.text, theme.bg, 0.045)


def blended(colours: Array, theme: Theme) -> Array:
    """Colours of ``density << 8 | value``, uint32 [65536]: the emptier, the more background."""
    share = np.arange(256, dtype=np.float32)[:, None, None] / 255
    ground = np.array(_rgb(pruned(theme)), np.float32)
    return _packed(ground + (colours.astype(np.float32)[None] - ground) * share)


def solid(colours: Array) -> Array:
    """The same without a mask: the density does not matter."""
    return _packed(np.broadcast_to(colours.astype(np.float32)[None], (256, 256, 3)))


def kept(theme: Theme) -> Array:
    """The same for a mask alone: leaf where kept."""
    leaf = np.array(_rgb(theme.leaf), np.uint8)
    return blended(np.broadcast_to(leaf, (256, 3)), theme)


def evolution(theme: Theme) -> tuple[str, str, str, str]:
    """Colours of a topology's cells: empty, kept, grown, dropped.

    What stays is quiet; what came and went stand out in blue and amber, the pair that every eye
    tells apart.
    """
    ground = pruned(theme)
    return ground, theme.mix(theme.leaf, ground, 0.62), theme.blue, theme.amber


def evolved(theme: Theme) -> Array:
    """The table of a topology's tile, whose value is a place in `evolution`.

    Kept cells fade as they grow few; the few that came or went stay in sight.
    """
    ground = np.array(_rgb(pruned(theme)), np.float32)
    share = (np.arange(256, dtype=np.float32) / 255) ** 0.7
    table = np.tile(ground, (256, 256, 1))
    empty, kept, grown, dropped = (np.array(_rgb(c), np.float32) for c in evolution(theme))
    table[:, 1] = empty + (kept - empty) * share[:, None]
    table[:, 2], table[:, 3] = grown, dropped
    return _packed(table)


def image(value: Array, density: Array, table: Array) -> QImage:
    """A picture of a tile's uint8 arrays [h, w], coloured by a table of this module."""
    pixels = table[(density.astype(np.uint16) << 8) | value]
    height, width = pixels.shape
    made = QImage(pixels.tobytes(), width, height, width * 4, QImage.Format.Format_RGB32)
    return made.copy()  # its own memory: the bytes go when this returns


def swatch(colours: Array) -> QImage:
    """All colours of a map side by side, one pixel high."""
    return image(np.arange(256, dtype=np.uint8)[None], np.zeros((1, 256), np.uint8), solid(colours))


def _between(anchors: tuple[tuple[int, ...], ...]) -> Array:
    places = np.linspace(0, 255, len(anchors))
    channels = [
        np.interp(np.arange(256), places, channel) for channel in zip(*anchors, strict=True)
    ]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def _packed(colours: Array) -> Array:
    red, green, blue = (colours[..., i].round().astype(np.uint32) for i in range(3))
    return (0xFF000000 | red << 16 | green << 8 | blue).astype(np.uint32).ravel()


def _rgb(colour: str) -> tuple[int, int, int]:
    made = QColor(colour)
    return made.red(), made.green(), made.blue()
