"""S1's tables as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..paper.published import CROSSOVERS, SETTING
from ..paper.words import FORMS, baseline_ms, order, times
from ..text import percent, table

Json = Mapping[str, Any]


def paper(result: Json) -> str:
    """One table for each network, data and batch, the single layers, and S1's order."""
    cells, published = result["cells"], result["published"]
    lines = [
        _machine(result["machine"], {cell["device"] for cell in cells}),
        "× is how many times faster than dense: against the framework's own layers, against dense",
        f"im2col + GEMM (the paper's baseline), and as the paper prints it ({SETTING}).",
    ]
    for place in dict.fromkeys((c["model"], c["data"], c["batch"]) for c in cells):
        those = [c for c in cells if (c["model"], c["data"], c["batch"]) == place]
        lines += ["", _title(those), _table(those, published)]
    for layer in dict.fromkeys(cell["layer"] for cell in result["layers"]):
        those = [cell for cell in result["layers"] if cell["layer"] == layer]
        lines += ["", *_layer(layer, those)]
    lines += ["", "The paper's order:", *_order(cells)]
    lines += _failed(result["failed"])
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _machine(machine: Json, devices: set[str]) -> str:
    """What the times are of."""
    names = [f"{machine['cpu']}, {machine['threads']} threads"] if devices != {"cuda"} else []
    if "cuda" in devices:
        names.append(machine["cuda"]["name"])
    return f"{'; '.join(names)}; float32, torch {machine['torch']}"


def _title(cells: list[Json]) -> str:
    first = cells[0]
    dense = sorted(cell["dense_ms"] for cell in cells)[len(cells) // 2]
    base = sorted(map(baseline_ms, cells))[len(cells) // 2]
    return (
        f"{first['model']}, {first['data']} ({first['input']}), batch {first['batch']}, "
        f"{first['device']}: dense {dense:.2f} ms, dense im2col + GEMM {base:.2f} ms"
    )


def _table(cells: list[Json], published: Iterable[Json]) -> str:
    theirs = {
        (row["form"], row["asked"]): row["speedup"]
        for row in published
        if (row["model"], row["data"]) == (cells[0]["model"], cells[0]["data"])
    }
    here = {(cell["form"], cell["asked"]): cell for cell in cells}
    shares = sorted({cell["asked"] for cell in cells}, reverse=True)
    rows = []
    for form, name in FORMS.items():
        row = [name, next((c["ran"] for c in cells if c["form"] == form), "–")]
        for share in shares:
            cell, paper = here.get((form, share)), theirs.get((form, share))
            row += _figures(cell) if cell else ["–"] * 3
            row.append(times(paper) if paper else "–")
        rows.append(row)
    head = ["form", "ran"]
    for share in shares:
        head += [f"{share:.0%}: ms", "dense", "im2col", "paper"]
    return table(rows, head, right=tuple(range(2, len(head))))


def _figures(cell: Json) -> list[str]:
    busy = cell["verdict"]["kind"] == "busy"
    gains = cell["speedup"], baseline_ms(cell) / cell["ms"]
    return [f"{cell['ms']:.2f}", "busy" if busy else times(gains[0]), times(gains[1])]


def _layer(layer: str, cells: list[Json]) -> list[str]:
    names = {"select": "the paper's way", "thinned": "after Lebedev", "gather": "ours"}
    forms = [form for form in names if any(cell["form"] == form for cell in cells)]
    parts = list(dict.fromkeys(p["name"] for c in cells for s in c["steps"] for p in s["parts"]))
    rows = []
    for kept in dict.fromkeys(cell["kept"] for cell in cells):
        those = {cell["form"]: cell for cell in cells if cell["kept"] == kept}
        first = those["select"]
        steps = {part["name"]: part["ms"] for part in first["steps"][0]["parts"]}
        rows.append(
            [
                percent(1 - kept),
                f"{first['dense_ms']:.2f}",
                f"{baseline_ms(first):.2f}",
                *(f"{those[form]['ms']:.2f} {times(those[form]['speedup'])}" for form in forms),
                *(f"{steps[name]:.2f}" for name in parts if name in steps),
            ]
        )
    head = ["sparsity", "dense ms", "im2col ms", *(names[form] for form in forms)]
    head += [name for name in parts if name in steps]
    words = (
        f"{layer}, group-wise, batch {cells[0]['batch']} (the paper: 64, pays from "
        f"{CROSSOVERS[layer.partition(' ')[0]]:.0%} sparsity); steps are of the paper's way"
    )
    return [words, table(rows, head, right=tuple(range(len(head))))]


def _order(cells: Iterable[Json]) -> Iterable[str]:
    for claim in order(cells):
        but = f" ({'; '.join(claim['but'])})" if claim["but"] else ""
        yield (
            f"{claim['holds']} of {claim['of']}: {claim['claim']}, dense by "
            f"{claim['baseline']}{but}"
        )


def _failed(failed: Iterable[Json]) -> Iterable[str]:
    reasons: dict[str, list[Json]] = {}
    for row in failed:
        reasons.setdefault(row["error"], []).append(row)
    for error, [first, *others] in reasons.items():
        where = first["layer"] or f"{first['model']}, {FORMS[first['form']]}, {first['asked']:.0%}"
        more = f" and {len(others)} more" if others else ""
        yield f"not measured: {where}{more}: {error}"
