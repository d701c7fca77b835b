"""A measurement as one HTML page that needs nothing else: verdicts, plots, tables. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..verdicts import best_speedup, dense_level, of_busy_machine, pattern_words
from . import page
from .axes import Axis, around, percent, plain
from .plots import Point, Series, Stack, lines, stacked_bars

Json = Mapping[str, Any]
Setting = tuple[int, str, str]
"""Batch, dtype and device."""

# The layers that take the longest have plots of their own; the others are in the table.
_PLOTTED = 8
_PARTS = {"gather": 5, "im2col": 3, "select": 0, "multiply": 6, "reshape": 4}
_KINDS = (6, 4, 0, 1, 2, 5, 7, 3)
_DENSE = Series("dense", 3, ())
_BUSY_PEAKS = "measured on a busy machine: may be too low, measured again next time"


def latency_html(result: Json) -> str:
    """The page for what `measure` finishes with: ``machine``, ``cells`` and ``failed``."""
    cells = list(result["cells"])
    names = sorted({str(cell["model"]) for cell in cells})
    machine, title = result["machine"], ", ".join(names) or "Nothing measured"
    settings = list(dict.fromkeys(_setting(cell) for cell in cells))
    body = [
        page.header(title, escape(_where(machine, settings))),
        _cards([cell for cell in cells if cell["layer"] is None]),
        *(_over_sparsity(cells, setting) for setting in settings),
        _over_batch(cells),
        _verdicts(cells, _differing(settings)),
        _steps(cells),
        _table(cells, _differing(settings)),
        _failed(result.get("failed") or ()),
        _peaks(machine.get("peaks") or {}),
        page.machine({key: value for key, value in machine.items() if key != "peaks"}),
    ]
    footer = "Dense is the faster of both memory formats, timed in turn with every other form."
    return page.page(f"{title}: measured latency", "\n".join(body), footer)


def _setting(cell: Json) -> Setting:
    return cell["batch"], cell["dtype"], cell["device"]


def _words(setting: Setting) -> str:
    batch, dtype, device = setting
    return f"batch {batch}, {dtype}, {device}"


def _differing(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Each setting by what tells it from the others, nothing for a single one."""
    parts = [[f"batch {batch}", dtype, device] for batch, dtype, device in settings]
    varying = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return {
        setting: ", ".join(part for part, varies in zip(each, varying, strict=True) if varies)
        for setting, each in zip(settings, parts, strict=True)
    }


def _where(machine: Json, settings: Sequence[Setting]) -> str:
    gpu = (machine.get("cuda") or {}).get("name")
    on = {device for _, _, device in settings}
    names = [gpu] if "cuda" in on and gpu else []
    names += [f"{machine.get('cpu')}, {machine.get('threads')} threads"] if on != {"cuda"} else []
    return "; ".join(map(str, [*names, *map(_words, settings[:3])]))


def _cards(whole: Sequence[Json]) -> str:
    cards = []
    for cell in whole[:8]:
        gain, kind = float(cell["speedup"]), cell["verdict"]["kind"]
        name = f"{pattern_words(cell['pattern'])}, {percent(1 - cell['kept'])} sparse"
        change = f"<i>{cell['dense_ms']:.2f} →</i> {cell['ms']:.2f} ms"
        about = "~" if cell.get("disturbed") else ""
        words = {"busy": "this machine was busy", "faster": f"{about}{gain:.2f}× faster"}
        color = {"faster": "good", "busy": "worse"}.get(kind, "slow")
        stays = cell["ran"] == "dense"
        text = words.get(kind, "no faster: stays dense" if stays else "as fast as dense")
        cards.append(
            f'<section class="card"><h3>Whole model, {escape(name)}</h3><strong>{change}</strong>'
            f'<p><span class="{color}">{text}</span>; {escape(_words(_setting(cell)))}, '
            f"{escape(cell['ran'])}</p></section>"
        )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _verdicts(cells: Iterable[Json], names: Mapping[Setting, str]) -> str:
    """One row for each layer and pattern: every sparsity's factor, and the best one in words."""
    groups: dict[tuple[str | None, str, Setting], list[Json]] = {}
    for cell in cells:
        groups.setdefault((cell["layer"], cell["pattern"], _setting(cell)), []).append(cell)
    rows = []
    for (layer, pattern, setting), those in groups.items():
        best = max(those, key=lambda c: (c["verdict"]["kind"] != "busy", best_speedup(c) or 0.0))
        pays = best["crossover"]
        kind = _color(best["verdict"]["kind"]) or "word"
        factors = " ".join(_factor(cell) for cell in sorted(those, key=lambda c: -c["kept"]))
        rows.append(
            f'<tr><td class="name">{escape(layer or "whole model")}</td>'
            f'<td class="word">{escape(pattern)}</td>'
            f'<td class="word">{escape(names[setting])}</td><td class="factors">{factors}</td>'
            f'<td class="{kind}">{escape(best["verdict"]["words"])}</td>'
            f'<td class="num">{"" if pays is None else percent(round(pays, 2))}</td></tr>'
        )
    head = ("Layer", "Pattern", "At", "Times faster, by sparsity", "Verdict", "#Pays from")
    return page.table("Verdicts", head, rows)


def _factor(cell: Json) -> str:
    """The sparsity, and how much faster its best form is than dense, below 1 where it is slower."""
    gain, kind = best_speedup(cell), cell["verdict"]["kind"]
    about = "~" if cell.get("disturbed") else ""
    word = "busy" if kind == "busy" else "–" if gain is None else f"{about}{gain:.2f}×"
    color = _color(kind) if kind in ("faster", "busy") else "word"
    sparsity = percent(round(1 - cell["kept"], 2))
    return f'<span><small>{sparsity}</small> <b class="{color}">{word}</b></span>'


def _color(kind: str) -> str:
    return {"faster": "good", "busy": "off"}.get(kind, "")


def _over_sparsity(cells: Sequence[Json], setting: Setting) -> str:
    """The whole model and the longest layers, each over sparsity, where several were measured."""
    those = [cell for cell in cells if _setting(cell) == setting]
    cost = {cell["layer"]: cell["dense_ms"] for cell in those}
    layers = sorted((layer for layer in cost if layer is not None), key=lambda name: -cost[name])
    plots: list[str] = []
    for layer in [None] * (None in cost) + layers[:_PLOTTED]:
        plots += _sparsity_plot(layer, [cell for cell in those if cell["layer"] == layer])
    if not plots:
        return ""
    more = len(layers) - _PLOTTED
    title = f"Time over sparsity, {_words(setting)}"
    words = f"; the {_PLOTTED} longest layers of {len(layers)}" if more > 0 else ""
    return f'<h2>{escape(title + words)}</h2><div class="plots">{"".join(plots)}</div>'


def _sparsity_plot(layer: str | None, cells: Sequence[Json]) -> Iterator[str]:
    patterns = list(dict.fromkeys(cell["pattern"] for cell in cells))
    series = []
    for pattern, kind in zip(patterns, _colours(len(patterns)), strict=True):
        points = {
            (1 - cell["kept"], cell["dense_ms"] / gain): of_busy_machine(cell)
            for cell in cells
            if cell["pattern"] == pattern and (gain := best_speedup(cell)) is not None
        }
        if points:
            series.append(_series(pattern_words(pattern), kind, points))
    if max((len(each.points) for each in series), default=0) < 2:
        return
    dense = dense_level(cells)
    # One that lies at the first point is no crossing: below it nothing was measured.
    first = {each.name: each.points[0][0] for each in series}
    crossovers = {
        name: cell["crossover"]
        for cell in cells
        if cell["crossover"] is not None
        and cell["crossover"] > first.get(name := pattern_words(cell["pattern"]), 1.0) + 1e-6
    }
    y = around("ms", [ms for each in series for _, ms in each.points] + [dense])
    x = Axis("sparsity", 0.0, 1.0, word=lambda value: percent(round(value, 2)))
    title = layer or "whole model"
    words = series[0].name if len(series) == 1 else ""
    yield lines(title, series, x, y, dense=dense, crossovers=crossovers, words=words)


def _series(name: str, kind: int, points: Mapping[Point, bool]) -> Series:
    """Points in order; those that are True are of a busy machine."""
    return Series(name, kind, sorted(points), [point for point in points if points[point]])


def _over_batch(cells: Iterable[Json]) -> str:
    """The whole model over the batch, dense and each pattern at each sparsity."""
    plots = []
    whole = [cell for cell in cells if cell["layer"] is None]
    for place in dict.fromkeys((cell["dtype"], cell["device"]) for cell in whole):
        those = [cell for cell in whole if (cell["dtype"], cell["device"]) == place]
        batches = sorted({cell["batch"] for cell in those})
        if len(batches) < 2:
            continue
        dense = {cell["batch"]: (cell["batch"], cell["dense_ms"]) for cell in those}
        series = [Series("dense", _DENSE.kind, sorted(dense.values()))]
        keys = list(dict.fromkeys((c["pattern"], round(c["kept"], 2)) for c in those))[:7]
        for (pattern, kept), kind in zip(keys, _colours(len(keys)), strict=True):
            points = {
                (cell["batch"], cell["ms"]): of_busy_machine(cell)
                for cell in those
                if (cell["pattern"], round(cell["kept"], 2)) == (pattern, kept)
            }
            name = f"{pattern_words(pattern)}, {percent(1 - kept)}"
            series.append(_series(name, kind, points))
        x = Axis("batch", batches[0] / 1.2, batches[-1] * 1.2, True, plain, tuple(batches))
        y = around("ms", [ms for each in series for _, ms in each.points], log=True)
        plots.append(lines(", ".join(place), series, x, y))
    if not plots:
        return ""
    return f'<h2>Whole model over batch</h2><div class="plots">{"".join(plots)}</div>'


def _steps(cells: Iterable[Json]) -> str:
    """What each form's time is made of, layer by layer."""
    stacks: dict[str, list[Stack]] = {}
    for cell in cells:
        where = f"{pattern_words(cell['pattern'])}, {percent(round(1 - cell['kept'], 2))}"
        title = f"{cell['layer'] or 'whole model'}, {_words(_setting(cell))}"
        for row in cell["steps"]:
            if row["path"] == "dense" and title in stacks:
                continue  # the same for all sparsities
            parts = [
                (Series(part["name"], _PARTS.get(part["name"], 7), ()), part["ms"])
                for part in row["parts"]
            ]
            name = "dense" if row["path"] == "dense" else f"{where}, {row['path']}"
            name += ", busy" if row.get("disturbed") else ""
            stacks.setdefault(title, []).append((name, parts))
    plots = "".join(stacked_bars(title, rows, "ms") for title, rows in stacks.items())
    return f'<h2>Steps</h2><div class="plots">{plots}</div>' if plots else ""


def _table(cells: Iterable[Json], names: Mapping[Setting, str]) -> str:
    rows = []
    for cell in cells:
        busy = cell["verdict"]["kind"] == "busy"
        kind = _color(cell["verdict"]["kind"])
        limit = cell["roofline"]
        about = "~" if cell.get("disturbed") else ""
        gain = "busy" if busy else f"{about}{cell['speedup']:.2f}×"
        tried = "; ".join(f"{row['path']} {row['ms']:.3f}" for row in cell["tried"])
        rows.append(
            f'<tr><td class="name">{escape(cell["layer"] or "whole model")}</td>'
            f'<td class="word">{escape(cell["pattern"])}</td>'
            f'<td class="num">{page.percent(cell["kept"])}</td>'
            f'<td class="word">{escape(names[_setting(cell)])}</td>'
            f'<td class="word">{escape(cell["ran"])}</td>'
            f'<td class="num">{cell["dense_ms"]:.3f}</td>'
            f'<td class="num" title="quartiles {cell["q1_ms"]:.3f} and {cell["q3_ms"]:.3f}">'
            f"{cell['ms']:.3f}</td>"
            f'<td class="num {kind}">{gain}</td>'
            f'<td class="num">{100 * cell["spread"]:.0f} %</td>'
            f'<td class="num">{_share_of(limit)}</td>'
            f'<td class="word">{escape(tried)}</td></tr>'
        )
    head = (
        "Layer", "Pattern", "#Kept", "At", "Ran", "#Dense ms", "#ms", "#Speed-up", "#Spread",
        "#Of the limit", "Also tried, ms",
    )  # fmt: skip
    return page.table("All figures", head, rows)


def _share_of(limit: Json | None) -> str:
    if limit is None:
        return "–"
    return f"{'~' if limit.get('disturbed') else ''}{percent(round(limit['share'], 2))}"


def _failed(failed: Iterable[Json]) -> str:
    rows = [
        f'<tr><td class="name">{escape(row["layer"] or "whole model")}</td>'
        f'<td class="word">{escape(row["pattern"] or "")}</td>'
        f"<td>{escape(row['error'])}</td></tr>"
        for row in failed
    ]
    return page.table("Not measured", ("Layer", "Pattern", "Why"), rows)


def _peaks(peaks: Mapping[str, Json]) -> str:
    """What the limit is taken from: the fastest that this machine was measured to be."""
    rows = [
        f'<tr><td class="word">{escape(device)}</td><td>'
        + escape(", ".join(f"{value:,.0f} in {name}" for name, value in peak["gflops"].items()))
        + f'</td><td class="num">{peak["gb_per_s"]:,.1f}</td>'
        + f"<td>{_BUSY_PEAKS if peak.get('disturbed') else ''}</td></tr>"
        for device, peak in peaks.items()
    ]
    return page.table("Measured peaks", ("On", "GFLOP/s", "#GB/s", ""), rows)


def _colours(count: int) -> list[int]:
    return [_KINDS[index % len(_KINDS)] for index in range(count)]
