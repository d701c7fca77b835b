"""Plots of a report as inline SVG in cards; their colours are the page's. Torch-free.

A plot is one size in its own units, which are pixels where its card is as wide as it is meant to
be; all text is escaped. `kind` is a series' colour: a number from 0 to 7, the same for the same
thing in all plots of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .axes import Axis, plain

HIGH = 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 22.0, 16.0, 40.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """What a plot shows in one colour. `busy` are those of its points that a busy machine gave."""

    name: str
    kind: int
    points: Sequence[Point]
    busy: Sequence[Point] = ()


@dataclass(frozen=True)
class Frame:
    """The area of a plot with its axes; `wide` and `high` are those of the whole picture."""

    x: Axis
    y: Axis
    wide: float = 460.0
    high: float = HIGH

    def at(self, x: float, y: float) -> Point:
        """Where a value lies in the picture."""
        return self.left + self.x.place(x) * self.across, self.up(y)

    def up(self, y: float) -> float:
        """The height of a value in the picture."""
        return self.bottom - self.y.place(y) * (self.bottom - _TOP)

    @property
    def left(self) -> float:
        """Where the y axis is."""
        return _LEFT

    @property
    def across(self) -> float:
        """How wide the area is."""
        return self.wide - _LEFT - _RIGHT

    @property
    def bottom(self) -> float:
        """Where the x axis is."""
        return self.high - _BOTTOM

    def axes(self, ticks: bool = True) -> str:
        """Lines at the ticks of y, their words, and what the axes are; `ticks`: also those of x."""
        marks = ""
        for value in self.y.ticks():
            y = self.up(value)
            marks += _line(_LEFT, y, self.wide - _RIGHT, y, "grid")
            marks += _text(_LEFT - 6, y + 3.5, self.y.word(value), "end")
        for value in self.x.ticks() if ticks else ():
            x, _ = self.at(value, self.y.low)
            marks += _line(x, self.bottom, x, self.bottom + 4, "axis")
            marks += _text(x, self.bottom + 16, self.x.word(value))
        marks += _line(_LEFT, self.bottom, self.wide - _RIGHT, self.bottom, "axis")
        marks += _text(_LEFT + self.across / 2, self.high - 4, self.x.label, kind="label")
        return marks + _text(4, 9, self.y.label, "start", "label") if self.y.label else marks

    def level(self, value: float, word: str) -> str:
        """A dashed line across at a value of y, with its word above it on the left."""
        y = self.up(value)
        line = _line(_LEFT, y, self.wide - _RIGHT, y, "dense")
        return line + _text(_LEFT + 4, y - 4, word, "start", "label")


def lines(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    dense: float | None = None,
    crossovers: Mapping[str, float] | None = None,
    words: str = "",
    wide: float = 460.0,
) -> str:
    """A line with its points for each series.

    `dense` is a dashed line across; `crossovers` are, by name, where series get faster than that.
    """
    frame = Frame(x, y, wide)
    marks = frame.axes()
    if dense is not None:
        marks += frame.level(dense, "dense")
    for each in series:
        over = (crossovers or {}).get(each.name)
        if over is not None and dense is not None:
            marks += _crossing(frame, each, over, dense, alone=len(series) == 1)
    for each in series:
        placed = [frame.at(*point) for point in each.points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
        marks += f'<polyline class="s{each.kind}" points="{path}"/>'
        for (px, py), (vx, vy) in zip(placed, each.points, strict=True):
            tip = f"{each.name}, {x.word(vx)}: {_number(vy)}"
            busy = (vx, vy) in each.busy
            tip += ", machine busy" if busy else ""
            marks += _circle(px, py, 3.2, each.kind, tip, hollow=busy)
    return card(title, words, svg(wide, frame.high, title, marks), legend(series))


def _crossing(frame: Frame, series: Series, over: float, dense: float, alone: bool) -> str:
    """A ring on the dense line; where no other line is in the way, also upright and in words."""
    x, y = frame.at(over, dense)
    word = f"pays from {frame.x.word(over)}"
    ring = (
        f'<circle class="ring s{series.kind}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
        f"<title>{escape(f'{series.name}: {word}')}</title></circle>"
    )
    if not alone:
        return ring
    late = frame.x.place(over) > 0.6
    place, anchor = (x - 6, "end") if late else (x + 6, "start")
    line = _line(x, y, x, frame.bottom, "cross")
    return ring + line + _text(place, frame.bottom - 6, word, anchor, "label")


def scatter(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    dense: Point | None = None,
    words: str = "",
    wide: float = 460.0,
) -> str:
    """Points; `dense` is where the dense model lies, by a cross of dashed lines."""
    frame = Frame(x, y, wide)
    marks = frame.axes()
    if dense is not None:
        over, _ = frame.at(*dense)
        marks += frame.level(dense[1], "")
        marks += _line(over, _TOP, over, frame.bottom, "dense")
        marks += _text(over + 5, frame.bottom - 6, "dense", "start", "label")
    for each in series:
        for vx, vy in each.points:
            px, py = frame.at(vx, vy)
            tip = f"{each.name}: {_number(vx)}, {_number(vy)}"
            marks += _circle(px, py, 4.5, each.kind, tip)
    return card(title, words, svg(wide, frame.high, title, marks), legend(series))


Group = tuple[str, Sequence[tuple[Series, float | None]]]
"""A label, and the bars over it: whose they are and how high, None where there is no figure."""


def grouped_bars(
    title: str,
    groups: Sequence[Group],
    y: Axis,
    *,
    label: str = "",
    base: float = 1.0,
    word: str = "dense",
    words: str = "",
    wide: float = 340.0,
) -> str:
    """Bars beside each other, group after group, from the line at `base` up or down."""
    frame = Frame(Axis(label, 0.0, float(max(1, len(groups)))), y, wide)
    marks = frame.axes(ticks=False)
    room = frame.across / max(1, len(groups))
    for index, (name, bars) in enumerate(groups):
        start = frame.left + index * room
        thick = min(16.0, room * 0.84 / max(1, len(bars)))
        start += (room - thick * len(bars)) / 2
        marks += _text(frame.left + (index + 0.5) * room, frame.bottom + 16, name)
        for place, (series, value) in enumerate(bars):
            if value is None:
                continue
            top, foot = sorted((frame.up(value), frame.up(base)))
            tip = escape(f"{series.name}, {name}: {y.word(float(f'{value:.3g}'))}")
            marks += (
                f'<rect class="s{series.kind}" x="{start + place * thick:.1f}" y="{top:.1f}" '
                f'width="{max(1.0, thick - 1.5):.1f}" height="{max(1.0, foot - top):.1f}">'
                f"<title>{tip}</title></rect>"
            )
    marks += frame.level(base, word)
    return card(title, words, svg(wide, frame.high, title, marks), "")


Stack = tuple[str, Sequence[tuple[Series, float]]]
"""A label, and the parts of its bar: whose they are and how much."""


def stacked_bars(
    title: str, stacks: Sequence[Stack], label: str, *, words: str = "", wide: float = 460.0
) -> str:
    """Bars that lie, one under the other, each made of its parts; `label` says what is added up."""
    margin = 24.0 + 6.3 * max((len(name) for name, _ in stacks), default=0)
    margin = min(margin, 0.45 * wide)
    most = max((sum(value for _, value in parts) for _, parts in stacks), default=1.0) or 1.0
    axis = Axis(label, 0.0, 1.02 * most)
    high, across = 24.0 * len(stacks) + 46.0, wide - margin - 58.0
    marks = ""
    for value in axis.ticks():
        x = margin + axis.place(value) * across
        marks += _line(x, 4, x, high - 38, "grid") + _text(x, high - 24, axis.word(value))
    named: dict[str, Series] = {}
    for index, (name, parts) in enumerate(stacks):
        y, done = 8.0 + 24.0 * index, 0.0
        marks += _text(margin - 8, y + 11, name, "end")
        for series, value in parts:
            named.setdefault(series.name, series)
            left, right = (margin + axis.place(edge) * across for edge in (done, done + value))
            done += value
            tip = escape(f"{name}, {series.name}: {_number(value)}")
            marks += (
                f'<rect class="s{series.kind}" x="{left:.1f}" y="{y:.1f}" '
                f'width="{max(0.5, right - left):.1f}" height="15"><title>{tip}</title></rect>'
            )
        end = margin + axis.place(done) * across
        marks += _text(end + 5, y + 11, _number(done), "start", "label")
    marks += _text(margin + across / 2, high - 6, label, kind="label")
    return card(title, words, svg(wide, high, title, marks), legend(list(named.values())))


def card(title: str, words: str, picture: str, below: str) -> str:
    """A plot with its title, what it says in words beside it, and its legend or foot below."""
    return (
        f'<section class="card plot"><h3>{escape(title)}<span>{escape(words)}</span></h3>'
        f"{picture}{below}</section>"
    )


def svg(wide: float, high: float, title: str, marks: str) -> str:
    """The picture, which says what it is to those who can't see it."""
    return (
        f'<svg viewBox="0 0 {wide:g} {high:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{marks}</svg>'
    )


def legend(series: Sequence[Series]) -> str:
    """The names of the series beside their colours, and what hollow points are; else nothing."""
    busy = any(each.busy for each in series)
    if len(series) < 2 and not busy:
        return ""
    items = "".join(
        f'<li><i class="s{each.kind}"></i>{escape(each.name)}</li>'
        for each in {each.name: each for each in series}.values()
    )
    items += '<li><i class="hollow"></i>machine busy</li>' if busy else ""
    return f'<ul class="legend">{items}</ul>'


def _number(value: float) -> str:
    return plain(float(f"{value:.3g}"))


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "tick") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def _circle(x: float, y: float, radius: float, kind: int, tip: str, hollow: bool = False) -> str:
    look = f"s{kind} hollow" if hollow else f"s{kind}"
    return (
        f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">'
        f"<title>{escape(tip)}</title></circle>"
    )
