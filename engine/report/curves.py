"""What a training said at each measurement, as small inline SVG plots. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .plots import card, svg

_WIDE, _HIGH, _PAD = 300.0, 84.0, 6.0
_SHARES = ("accuracy", "sparsity", "closed")
"""Numbers in [0, 1] that are read as per cent."""
_CHURN = ("dropped", "regrown")

Points = list[tuple[float, float]]


def curves(history: Iterable[Mapping[str, Any]], dense: float | None = None) -> str:
    """One plot for each number of `history` (``step`` and values), nothing without a history.

    `dense` is the dense model's accuracy, a dashed line. Churn is one plot of bars: what masks
    dropped since the measurement before, and above it what they regrew.
    """
    rows = list(history)
    found: dict[str, Points] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and value is not None:
                found.setdefault(name, []).append((float(row["step"]), float(value)))
    end = max((float(row["step"]) for row in rows), default=0.0)
    first = [name for name in ("accuracy", "loss", "sparsity") if name in found]
    others = [name for name in found if name not in (*first, *_CHURN)]
    plots = [
        _line(name, found[name], end, dense if name == "accuracy" else None)
        for name in (*first, *others)
    ]
    if any(value for name in _CHURN for _, value in found.get(name, ())):
        plots.append(_bars(found, end))
    if not plots:
        return ""
    return f'<h2>Training</h2><div class="curves">{"".join(plots)}</div>'


def _line(name: str, points: Points, end: float, dense: float | None) -> str:
    values = [value for _, value in points] + ([dense] if dense is not None else [])
    low, high = min(values), max(values)
    if name in ("loss", "sparsity"):
        low = min(low, 0.0)
    room = high - low or abs(high) or 1.0

    def y(value: float) -> float:
        return _HIGH - _PAD - (value - low) / room * (_HIGH - 2 * _PAD)

    marks = ""
    if dense is not None:
        marks = (
            f'<line class="dense" x1="0" x2="{_WIDE:g}" y1="{y(dense):.1f}" y2="{y(dense):.1f}"/>'
        )
    placed = " ".join(f"{_x(step, end):.1f},{y(value):.1f}" for step, value in points)
    x, last = _x(points[-1][0], end), points[-1][1]
    kind = name if name in ("accuracy", "loss", "sparsity") else "other"
    marks += f'<polyline class="{kind}" points="{placed}"/>'
    marks += f'<circle class="{kind}" cx="{x:.1f}" cy="{y(last):.1f}" r="3"/>'
    words = _word(name, last) + (
        f" · dense {_word('accuracy', dense)}" if dense is not None else ""
    )
    return _plot(name.replace("_", " ").capitalize(), words, marks, end)


def _bars(found: Mapping[str, Points], end: float) -> str:
    dropped, regrown = (dict(found.get(name, ())) for name in _CHURN)
    steps = sorted({*dropped, *regrown})
    # What the first masks take away would leave no room for what changes after them.
    later = steps[1:] or steps
    most = max((dropped.get(s, 0.0) + regrown.get(s, 0.0) for s in later), default=0.0) or 1.0
    wide = max(1.0, min(8.0, _WIDE / (len(steps) + 1) - 1))
    marks = ""
    for step in steps:
        low = _HIGH
        for kind, values in (("dropped", dropped), ("regrown", regrown)):
            high = min(values.get(step, 0.0) / most * (_HIGH - _PAD), low)
            low -= high
            marks += (
                f'<rect class="{kind}" x="{_x(step, end) - wide / 2:.1f}" y="{low:.1f}" '
                f'width="{wide:.1f}" height="{high:.1f}"/>'
            )
    total = f"{sum(dropped.values()):,.0f} dropped, {sum(regrown.values()):,.0f} regrown"
    return _plot("Masks", total, marks, end)


def _x(step: float, end: float) -> float:
    return _PAD + step / (end or 1.0) * (_WIDE - 2 * _PAD)


def _plot(title: str, words: str, marks: str, end: float) -> str:
    axis = f'<line class="axis" x1="0" x2="{_WIDE:g}" y1="{_HIGH:g}" y2="{_HIGH:g}"/>'
    picture = svg(_WIDE, _HIGH, f"{title}: {words}", axis + marks)
    return card(title, words, picture, f"<p>step 0<span>{end:,.0f}</span></p>")


def _word(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.3g}"
