"""S1's tables beside those of this machine, as a page that needs nothing else. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..paper.published import CROSSOVERS, SETTING
from ..paper.words import FORMS, baseline_ms, order, times
from . import page
from .axes import Axis, around, fold, percent
from .plots import Group, Series, Stack, grouped_bars, legend, lines, scatter, stacked_bars

Json = Mapping[str, Any]
Place = tuple[str, str, int]
"""A network, its data, the batch: one table of S1, here."""

TITLES = {
    "resnet18": "ResNet-18",
    "vgg16": "VGG-16",
    "vit_b_16": "ViT-B/16",
    "bert-base": "BERT-base",
}
_KEPT = (0.75, 0.5, 0.25)
_FORMS = {form: Series(name, kind, ()) for kind, (form, name) in enumerate(FORMS.items())}
_PARTS = {"gather": 5, "im2col": 3, "select": 0, "multiply": 6, "reshape": 4}


def paper_html(result: Json) -> str:
    """The page for what `measuring.paper` finishes with."""
    cells, machine = list(result["cells"]), result["machine"]
    body = [
        page.header("The paper's tables on this machine", escape(_where(machine, cells))),
        _lead(),
        _order(cells),
        *(_tables(result, place) for place in _places(cells)),
        _accuracy(result["published"]),
        _layers(result["layers"]),
        _failed(result["failed"]),
        page.machine(machine),
        page.notes(result["notes"]),
    ]
    footer = "Each figure is the time of a whole pass; ratios are to dense in the same run."
    return page.page("The paper's tables on this machine", "\n".join(body), footer)


def _where(machine: Json, cells: Sequence[Json]) -> str:
    devices = sorted({str(cell["device"]) for cell in cells})
    if devices == ["cuda"] and machine.get("cuda"):
        return f"{machine['cuda']['name']}, float32, torch {machine['torch']}"
    return f"{machine['cpu']}, {machine['threads']} threads, float32, torch {machine['torch']}"


def _lead() -> str:
    return (
        '<div class="sheet lead"><p>Liu et al., <i>Performance characterization and optimization '
        "of pruning patterns for sparse DNN inference</i>, measured on an RTX 2080 Ti against a "
        "dense network that runs im2col and then cuBLAS. Here every form is set against two "
        "baselines: the same im2col and GEMM, to compare with the paper, and the framework's own "
        "convolutions in the better of two memory formats, which is what one has anyway. Bars are "
        "times faster than dense: below the line is slower.</p></div>"
    )


def _order(cells: Sequence[Json]) -> str:
    rows = []
    for claim in order(cells):
        kind = "good" if claim["holds"] == claim["of"] else "slow"
        rows.append(
            f"<tr><td>{escape(claim['claim'])}</td>"
            f'<td class="word">{escape(claim["baseline"])}</td>'
            f'<td class="num {kind}">{claim["holds"]} of {claim["of"]}</td>'
            f'<td class="word">{escape("; ".join(claim["but"]))}</td></tr>'
        )
    head = ("What the paper found", "Against dense by", "#Here", "But not")
    return page.table("The paper's order", head, rows)


def _places(cells: Iterable[Json]) -> list[Place]:
    return list(dict.fromkeys((c["model"], c["data"], c["batch"]) for c in cells))


def _tables(result: Json, place: Place) -> str:
    model, data, batch = place
    those = [c for c in result["cells"] if (c["model"], c["data"], c["batch"]) == place]
    theirs = {
        (row["form"], row["asked"]): row
        for row in result["published"]
        if (row["model"], row["data"]) == (model, data)
    }
    here = {(cell["form"], cell["asked"]): cell for cell in those}
    panels = (
        ("The paper", SETTING.partition(", fp32")[0], {k: r["speedup"] for k, r in theirs.items()}),
        ("Here", "against im2col + GEMM", {k: baseline_ms(c) / c["ms"] for k, c in here.items()}),
        ("Here", "against the framework", {k: c["speedup"] for k, c in here.items()}),
    )
    values = [value for _, _, found in panels for value in found.values()]
    y = around("times faster", [*values, 1.0], log=True, word=fold)
    plots = "".join(
        grouped_bars(name, _groups(found), y, label="weights kept", words=words)
        for name, words, found in panels
    )
    title = f"{TITLES.get(model, model)}, {data} ({those[0]['input']}), batch {batch}"
    shown = [_FORMS[form] for form in FORMS if any(key[0] == form for key in here)]
    return (
        f"<h2>{escape(title)}</h2>{legend(shown)}"
        f'<div class="plots three">{plots}</div>{_figures(here, theirs)}'
    )


def _groups(found: Mapping[tuple[str, float], float]) -> list[Group]:
    return [
        (percent(kept), [(_FORMS[form], found.get((form, kept))) for form in FORMS])
        for kept in _KEPT
        if any(key[1] == kept for key in found)
    ]


def _figures(
    here: Mapping[tuple[str, float], Json], theirs: Mapping[tuple[str, float], Json]
) -> str:
    rows = []
    for form, name in FORMS.items():
        for kept in _KEPT:
            cell, row = here.get((form, kept)), theirs.get((form, kept))
            if cell is None:
                continue
            kind = {"faster": "good", "slower": "slow"}.get(cell["verdict"]["kind"], "")
            gain = "busy" if cell["verdict"]["kind"] == "busy" else times(cell["speedup"])
            rows.append(
                f'<tr><td>{escape(name)}</td><td class="num">{page.percent(cell["kept"])}</td>'
                f'<td class="word">{escape(cell["ran"])}</td>'
                f'<td class="num">{cell["ms"]:.2f}</td><td class="num">{cell["dense_ms"]:.2f}</td>'
                f'<td class="num {kind}">{gain}</td>'
                f'<td class="num">{baseline_ms(cell):.2f}</td>'
                f'<td class="num">{times(baseline_ms(cell) / cell["ms"])}</td>'
                f'<td class="num">{times(row["speedup"]) if row else "–"}</td>'
                f'<td class="word">{escape(row["source"]) if row else ""}</td></tr>'
            )
    head = (
        "Form", "#Kept", "Ran", "#ms", "#Dense ms", "#Faster", "#im2col ms", "#Faster", "#Paper",
        "Source",
    )  # fmt: skip
    table = page.table("", head, rows).removeprefix("<h2></h2>")
    return f"<details><summary>Figures</summary>{table}</details>" if table else ""


def _accuracy(published: Sequence[Json]) -> str:
    if not published:
        return ""
    plots = []
    for model in dict.fromkeys(row["model"] for row in published):
        those = [row for row in published if row["model"] == model]
        series = [
            Series(
                FORMS[form],
                _FORMS[form].kind,
                [(row["speedup"], row["accuracy_change"]) for row in those if row["form"] == form],
            )
            for form in FORMS
        ]
        series = [each for each in series if each.points]
        x = around("times faster than dense", [r["speedup"] for r in those] + [1.0], log=True,
                   word=fold)  # fmt: skip
        y = around("accuracy, points", [row["accuracy_change"] for row in those])
        sources = sorted({row["source"] for row in those})
        words = "tables " + ", ".join(source.removeprefix("table ") for source in sources)
        title = TITLES.get(model, model)
        plots.append(scatter(title, series, x, y, dense=(1.0, 0.0), words=words))
    return (
        "<h2>What the paper paid for it: change of accuracy against speed</h2>"
        f'<div class="plots">{"".join(plots)}</div>'
    )


def _layers(cells: Sequence[Json]) -> str:
    plots = []
    for layer in dict.fromkeys(cell["layer"] for cell in cells):
        those = [cell for cell in cells if cell["layer"] == layer]
        plots += [_over_sparsity(layer, those), *_steps(layer, those)]
    if not plots:
        return ""
    return (
        "<h2>Single layers, group-wise (figures 11 to 14)</h2>"
        f'<div class="plots">{"".join(plots)}</div>'
    )


def _over_sparsity(layer: str, cells: Sequence[Json]) -> str:
    names = {"select": FORMS["select"], "thinned": "after Lebedev", "gather": "group-wise, ours"}
    kinds = {"select": _FORMS["select"].kind, "thinned": 7, "gather": _FORMS["ours"].kind}
    series = []
    for form, name in names.items():
        points = [(1 - cell["kept"], cell["ms"]) for cell in cells if cell["form"] == form]
        series.append(Series(name, kinds[form], points))
    base = [(1 - cell["kept"], baseline_ms(cell)) for cell in cells if cell["form"] == "select"]
    if any(cell["tried"] for cell in cells):
        series.append(Series("dense im2col + GEMM", 3, base))
    series = [each for each in series if each.points]
    dense = sorted(cell["dense_ms"] for cell in cells)[len(cells) // 2]
    values = [ms for each in series for _, ms in each.points]
    kind = layer.partition(" ")[0]
    words = f"batch {cells[0]['batch']}; in the paper pays from {percent(CROSSOVERS[kind])}"
    x = Axis("sparsity", 0.0, 1.0, word=percent)
    return lines(layer, series, x, around("ms", [*values, dense]), dense=dense, words=words)


def _steps(layer: str, cells: Sequence[Json]) -> Iterator[str]:
    names = {"select": "the paper's way", "gather": "ours"}
    stacks: list[Stack] = []
    # Every other sparsity, so that the plot is no taller than the one beside it.
    shown = set(list(dict.fromkeys(cell["kept"] for cell in cells))[::2])
    for cell in cells:
        if cell["form"] in names and cell["kept"] in shown and cell["steps"]:
            parts = [
                (Series(part["name"], _PARTS.get(part["name"], 7), ()), part["ms"])
                for part in cell["steps"][0]["parts"]
            ]
            name = f"{percent(round(1 - cell['kept'], 2))}, {names[cell['form']]}"
            name += ", busy" if cell["steps"][0].get("disturbed") else ""
            stacks.append((name, parts))
    if stacks:
        yield stacked_bars(f"{layer}: steps", stacks, "ms", words="each timed by itself")


def _failed(failed: Iterable[Json]) -> str:
    rows = []
    for row in failed:
        model, form = str(row["model"]), str(row.get("form"))
        rows.append(
            f"<tr><td>{escape(TITLES.get(model, model))}</td>"
            f"<td>{escape(FORMS.get(form, str(row['pattern'])))}</td>"
            f'<td class="num">{page.percent(row["kept"])}</td><td class="num">{row["batch"]}</td>'
            f'<td class="word">{escape(str(row.get("data") or row["layer"]))}</td>'
            f'<td class="word">{escape(row["error"])}</td></tr>'
        )
    return page.table("Not measured", ("Model", "Form", "#Kept", "#Batch", "Data", "Why"), rows)
