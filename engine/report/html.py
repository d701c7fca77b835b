"""The report as one HTML page that needs nothing else. Torch-free.

Three numbers stay apart on it, as everywhere: zeros in the weights, bytes on disk, measured time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from . import page
from .curves import curves

Json = Mapping[str, Any]

# A layer whose pattern is coarse misses what was asked for by up to half a unit; more is a fault.
_NOTEWORTHY = 0.01


def render(report: Json) -> str:
    """The page for a report as ``prune --json`` gives it.

    `report` may also hold ``measured`` (``{"machine", "cells"}`` as ``measure --json`` gives it)
    and ``exports`` (a list of what ``export --json`` gives). What is missing is said to be missing.
    All text is escaped; the page loads nothing and runs no script.
    """
    name = str(report.get("name") or report.get("model") or "model")
    measured = report.get("measured") or {}
    facts = {**(report.get("machine") or {}), **(measured.get("machine") or {})}
    if report.get("hash"):
        facts["weights (SHA-256)"] = report["hash"]
    body = "\n".join(
        (
            _header(name, report),
            _cards(report),
            curves(report.get("history") or (), (report.get("accuracy") or {}).get("dense")),
            _layers(report.get("layers") or ()),
            _levels(report.get("levels") or (), report.get("shared")),
            _measured(report.get("measured")),
            _exports(report.get("exports") or ()),
            _plan(report.get("plan")),
            page.machine(facts),
            page.notes(report.get("notes") or ()),
        )
    )
    footer = "Zeros, bytes and time are three different things: none follows from another."
    return page.page(f"{name}: pruning report", body, footer)


def _header(name: str, report: Json) -> str:
    layers = len(report.get("layers") or ())
    model = escape(str(report.get("model", "")))
    words = f"{model} · {layers} layer{'' if layers == 1 else 's'} pruned"
    if report.get("seconds") is not None:
        words += f" in {_duration(report['seconds'])}"
    if report.get("steps"):
        words += f", {report['steps']:,} training steps"
    return page.header(name, words)


def _cards(report: Json) -> str:
    cards = (_zeros_card(report), _bytes_card(report), _time_card(report), _accuracy_card(report))
    return f'<div class="cards">{"".join(cards)}</div>'


def _zeros_card(report: Json) -> str:
    if report.get("sparsity") is None:
        return _card("Zeros", None, "nothing was pruned")
    text = "of the weights in pruned layers"
    if report.get("params"):
        zeros = report["params"] - report["nonzeros"]
        share = page.percent(zeros / report["params"])
        text += f"; {zeros:,} of all {report['params']:,} parameters ({share})"
    return _card("Zeros", page.percent(report["sparsity"]), text)


def _bytes_card(report: Json) -> str:
    exports = list(report.get("exports") or ())
    if exports:
        best = min(exports, key=lambda row: row["bytes"])
        value = _change(_size(best["dense_bytes"]), _size(best["bytes"]))
        return _card("File", value, f"{escape(str(best['format']))}, as written to disk")
    sizes = report.get("bytes")
    if not sizes:
        return _card("File", None, "not exported")
    value = _change(_size(sizes["dense"]), _size(sizes["compressed"]))
    return _card("File", value, "weights in the compressed export; not written yet")


def _time_card(report: Json) -> str:
    cells = (report.get("measured") or {}).get("cells") or ()
    whole = [cell for cell in cells if cell.get("layer") is None]
    if not whole:
        return _card("Time", None, "fewer weights are not less time until it is measured")
    cell = whole[0]
    value = _change(f"{cell['dense_ms']:.2f}", f"{cell['ms']:.2f} ms")
    words = f"batch {cell['batch']} on {cell['device']}, {cell['ran']}"
    if cell["speedup"] >= 1:
        text = f'<span class="good">{cell["speedup"]:.2f}× faster</span>'
    else:
        text = f'<span class="slow">{1 / cell["speedup"]:.2f}× slower</span>'
    return _card("Time", value, f"{text}; whole model, {escape(words)}")


def _accuracy_card(report: Json) -> str:
    accuracy = report.get("accuracy") or {}
    dense, pruned = accuracy.get("dense"), accuracy.get("pruned")
    if pruned is None:
        return _card("Accuracy", None, "there was no data to test on")
    if dense is None:
        return _card("Accuracy", page.percent(pruned), "on validation data", "blue")
    points = 100 * (pruned - dense)
    text = f"{points:+.1f} points on validation data".replace("-", "−")
    return _card("Accuracy", _change(page.percent(dense), page.percent(pruned)), text, "blue")


def _card(title: str, value: str | None, text: str, kind: str = "") -> str:
    """`value` and `text` are HTML already; None: there is no such number."""
    shown = value if value is not None else "not measured" if title == "Time" else "–"
    kind = "none" if value is None else kind
    return (
        f'<section class="card"><h3>{title}</h3><strong class="{kind}">{shown}</strong>'
        f"<p>{text}</p></section>"
    )


def _layers(layers: Iterable[Json]) -> str:
    rows = []
    for layer in layers:
        asked, got = layer["requested"], layer["achieved"]
        off = " off" if abs(asked - got) > _NOTEWORTHY else ""
        rows.append(
            f'<tr><td class="name">{escape(str(layer["path"]))}</td>'
            f'<td class="word">{escape(str(layer["pattern"]))}</td>'
            f'<td class="num">{page.percent(asked)}</td>'
            f'<td class="num{off}">{page.percent(got, 2)}</td>'
            f"<td>{_bar(asked, got)}</td>"
            f'<td class="num">{layer["zeros"]:,}</td><td class="num">{layer["weights"]:,}</td></tr>'
        )
    head = ("Layer", "Pattern", "#Requested", "#Achieved", "Kept", "#Zeros", "#Weights")
    return page.table("Layers", head, rows)


def _levels(levels: Iterable[Json], shared: Json | None) -> str:
    rows = [
        f'<tr><td class="num">{page.percent(level["sparsity"])}</td>'
        f'<td class="num">{page.percent(level["achieved"], 2)}</td>'
        f"<td>{_bar(level['sparsity'], level['achieved'])}</td>"
        f'<td class="num">{level["nonzeros"]:,}</td>'
        f'<td class="num">{_known(level["accuracy"])}</td>'
        f'<td class="num">{_size(level["bytes"])}</td></tr>'
        for level in levels
    ]
    head = ("#Level", "#Achieved", "Kept", "#Parameters left", "#Accuracy", "#File of its own")
    words = f'<div class="sheet"><p>{_shared_words(shared)}</p></div>' if shared and rows else ""
    return page.table("Nested levels", head, rows) + words


def _shared_words(shared: Json) -> str:
    """What one file with all levels takes, in a sentence."""
    index = shared["positions"] + shared["index"]
    words = (
        f"All levels in one file: {_size(shared['total'])}, of which {_size(shared['values'])} are "
        f"shared weights and {_size(index)} indices ({_size(shared['positions'])} positions, "
        f"{_size(shared['index'])} levels); in one file each: {_size(sum(shared['separate']))}."
    )
    if shared["break_even"] is not None:
        words += (
            f" Indices cost what zeros save at {page.percent(shared['break_even'])} zeros in the "
            "loosest level."
        )
    return words


def _bar(asked: float, got: float) -> str:
    """What is kept in leaf green, and an amber tick where the request lies."""
    kept, tick = 100 * (1 - got), 100 * (1 - asked)
    return (
        f'<div class="bar" title="{kept:.1f} % kept, {tick:.1f} % asked for">'
        f'<b style="width:{kept:.2f}%"></b><u style="left:{tick:.2f}%"></u></div>'
    )


def _measured(measured: Json | None) -> str:
    rows = []
    for cell in (measured or {}).get("cells") or ():
        kind = "good" if cell["speedup"] >= 1 else "slow"
        layer = cell["layer"] if cell["layer"] is not None else "whole model"
        rows.append(
            f'<tr><td class="name">{escape(str(layer))}</td>'
            f'<td class="word">{escape(str(cell["pattern"] or "–"))}</td>'
            f'<td class="num">{page.percent(cell["kept"])}</td><td class="num">{cell["batch"]}</td>'
            f'<td class="word">{escape(str(cell["device"]))}, {escape(str(cell["dtype"]))}</td>'
            f'<td class="word">{escape(str(cell["ran"]))}</td>'
            f'<td class="num">{cell["dense_ms"]:.3f}</td><td class="num">{cell["ms"]:.3f}</td>'
            f'<td class="num {kind}">{cell["speedup"]:.2f}×</td>'
            f'<td class="num">±{100 * cell["spread"]:.0f} %</td></tr>'
        )
    head = ("Layer", "Pattern", "#Kept", "#Batch", "On", "Ran", "#Dense ms", "#ms", "#Speed-up")
    return page.table("Measured time", (*head, "#Spread"), rows)


def _exports(exports: Iterable[Json]) -> str:
    rows = []
    for export in exports:
        notes = "; ".join(str(note) for note in export.get("notes") or ())
        verdict = "equal" if export["equal"] else "different"
        rows.append(
            f'<tr><td class="name">{escape(str(export["path"]))}</td>'
            f'<td class="word">{escape(str(export["format"]))}</td>'
            f'<td class="num">{_size(export["bytes"])}</td>'
            f'<td class="num">{_size(export["dense_bytes"])}</td>'
            f"<td>{verdict}, largest difference {export['max_difference']:.2g}</td>"
            f'<td class="word">{escape(notes)}</td></tr>'
        )
        if "shared" in export:
            rows.append(f'<tr><td colspan="6">{_shared_words(export["shared"])}</td></tr>')
    head = ("File", "Format", "#Bytes", "#Dense", "Read back", "Notes")
    return page.table("Exports", head, rows)


def _plan(plan: Json | None) -> str:
    if not plan:
        return ""
    rows = [
        f'<tr><td class="name">{escape(str(rule.get("layers", "")))}</td>'
        f"<td>{page.words(rule.get('pattern'))}</td><td>{page.words(rule.get('criterion'))}</td>"
        f'<td class="num">{_share(rule.get("sparsity"))}</td></tr>'
        for rule in plan.get("rules") or ()
    ]
    table = page.table("Plan", ("Layers", "Pattern", "Criterion", "#Sparsity"), rows)
    keys = ("allocation", "schedule", "training", "seed")
    facts = page.facts({key: page.words(plan[key]) for key in keys if plan.get(key) is not None})
    text = escape(json.dumps(plan, indent=2, ensure_ascii=False))
    whole = f"<details><summary>The plan as JSON</summary><pre>{text}</pre></details>"
    title = "" if table else "<h2>Plan</h2>"
    return f'{title}{table}<div class="sheet" style="margin-top:12px">{facts}{whole}</div>'


def _change(before: str, after: str) -> str:
    return f"<i>{escape(before)} →</i> {escape(after)}"


def _known(value: float | None) -> str:
    return "–" if value is None else page.percent(value)


def _share(value: float | None) -> str:
    return "as the pattern says" if value is None else page.percent(value)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
