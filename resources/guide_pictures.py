"""Draw the guide's pictures of patterns: what each one's own mask keeps of one set of scores.

``python -m secateur.resources.guide_pictures`` writes ``guide/patterns/KIND.svg`` again. Their
colours can be read on a light and on a dark page.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engine.gemm import Gemm
from ..engine.patterns import PATTERNS

FOLDER = Path(__file__).parent / "guide" / "patterns"
_CELL, _GAP, _EDGE = 11, 3, 22
_BETWEEN = 64
_LEAF, _GREY = "#4c9f4c", "#808080"
_SHADES = (0.45, 0.63, 0.81, 1.0)


@dataclass(frozen=True)
class Picture:
    """A pattern on one matrix, or on each of several beside each other.

    `gap` are the (rows, columns) of cells after which a small gap shows the pattern's unit.
    `smaller` says that the matrix without what went is shown as well: it is what is left to do.
    Of several `layers` those with the lowest mean score go, as many as `sparsity` asks.
    """

    pattern: str
    gemm: Gemm
    sparsity: float = 0.5
    gap: tuple[int, int] = (0, 0)
    smaller: bool = False
    layers: int = 1


_PLAIN = Gemm((12, 24))
_KERNELS = Gemm((5, 8, 3, 3), (3, 3))
PICTURES = (
    Picture("element", _PLAIN),
    Picture("vector:8", _PLAIN, gap=(0, 8)),
    Picture("nm:2:4", _PLAIN, gap=(0, 4)),
    Picture("block:4x4", _PLAIN, gap=(4, 4)),
    Picture("group", Gemm((12, 3, 3, 3), (3, 3)), 0.6, gap=(0, 9), smaller=True),
    Picture("column", _PLAIN, smaller=True),
    Picture("channel", _KERNELS, gap=(3, 3), smaller=True),
    Picture("row", _PLAIN, smaller=True),
    Picture("filter", _KERNELS, 0.4, gap=(3, 3), smaller=True),
    Picture("kernel:4", _KERNELS, 0.6, gap=(3, 3)),
    Picture("head", Gemm((12, 24), head=6), gap=(0, 6), smaller=True),
    Picture("layer", Gemm((8, 8)), layers=4),
)


def scores_of(gemm: Gemm, seed: int) -> Tensor:
    """Scores in (0, 1], float32 [out, in]: noise on rows and columns of different weight."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    out, ins = gemm.shape
    return (0.25 + noise(out, 1)) * (0.25 + noise(1, ins)) * (0.1 + noise(out, ins)) / 1.72


def draw(picture: Picture, seed: int = 7) -> str:
    """The picture as SVG text."""
    pattern = PATTERNS.parse(picture.pattern)
    gemm = picture.gemm
    layers = [scores_of(gemm, seed + number) for number in range(picture.layers)]
    asked = [picture.sparsity] * len(layers)
    if len(layers) > 1:
        lowest = sorted(layers, key=lambda scores: float(scores.mean()))
        gone = lowest[: round(picture.sparsity * len(layers))]
        asked = [float(any(scores is each for each in gone)) for scores in layers]
    panels = [
        (_laid(scores, gemm), _laid(pattern.mask(scores, sparsity, gemm), gemm))
        for scores, sparsity in zip(layers, asked, strict=True)
    ]
    if picture.smaller:
        scores, mask = panels[0]
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        panels.append((scores[rows][:, columns], mask[rows][:, columns]))
    return _svg(panels, picture)


def _laid(matrix: Tensor, gemm: Gemm) -> Tensor:
    """Kernels of several rows stand as squares, outputs below each other; else W as it is."""
    if len(gemm.kernel) < 2 or gemm.shape[0] > 8:
        return matrix
    high, wide = gemm.kernel
    split = matrix.view(gemm.shape[0], gemm.channels, high, wide)
    return split.transpose(1, 2).reshape(gemm.shape[0] * high, gemm.channels * wide)


def _svg(panels: list[tuple[Tensor, Tensor]], picture: Picture) -> str:
    parts: list[str] = []
    left, height = _EDGE, 0
    between = _BETWEEN if picture.smaller else _BETWEEN // 3
    for number, (scores, mask) in enumerate(panels):
        if number and picture.smaller:
            parts.append(_arrow(left - _BETWEEN // 2, _EDGE + height // 2))
        # Where single columns went, what is left has no whole units to stand apart.
        gap = tuple(
            g if g and mask.shape[axis] % g == 0 else 0 for axis, g in enumerate(picture.gap)
        )
        wide, high = (_place(mask.shape[axis] - 1, gap[axis]) + _CELL for axis in (1, 0))
        parts += _cells(scores, mask, left, gap)
        if not number:
            parts += [_word(left, 14, "inputs →"), _word(14, _EDGE, "outputs →", turned=True)]
        left, height = left + wide + between, max(height, high)
    width, height = left - between + 2, _EDGE + height + 2
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join((head, *parts, "</svg>\n"))


def _cells(scores: Tensor, mask: Tensor, left: int, gap: tuple[int, ...]) -> list[str]:
    """One path for what goes, and one for each shade of what is kept."""
    levels = torch.clamp((scores.sqrt() * len(_SHADES)).long(), max=len(_SHADES) - 1)
    paths: dict[int, list[str]] = {level: [] for level in range(-1, len(_SHADES))}
    size = _CELL - 1
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            level = int(levels[row, column]) if mask[row, column] else -1
            x, y = left + _place(column, gap[1]), _EDGE + _place(row, gap[0])
            paths[level].append(f"M{x} {y}h{size}v{size}h-{size}z")
    return [
        f'<path fill="{_LEAF if level >= 0 else _GREY}" '
        f'fill-opacity="{_SHADES[level] if level >= 0 else 0.18}" d="{"".join(path)}"/>'
        for level, path in paths.items()
        if path
    ]


def _place(cell: int, gap: int) -> int:
    return cell * _CELL + (cell // gap * _GAP if gap else 0)


def _word(x: int, y: int, text: str, turned: bool = False) -> str:
    turn = f' transform="rotate(90 {x - 8} {y})"' if turned else ""
    return f'<text x="{x - 8 if turned else x}" y="{y}" fill="{_GREY}"{turn}>{text}</text>'


def _arrow(x: int, y: int) -> str:
    shape = f"M{x - 14} {y}h26m-7 -6l7 6l-7 6"
    return f'<path fill="none" stroke="{_GREY}" stroke-width="2" d="{shape}"/>'


def main() -> int:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        path = FOLDER / f"{PATTERNS.parse(picture.pattern).kind}.svg"
        path.write_text(draw(picture), encoding="utf-8", newline="\n")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
