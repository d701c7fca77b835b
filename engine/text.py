"""Results as people read them in a terminal."""

from __future__ import annotations

import sys
from typing import Any

from .events import Event, Log, Metric, Progress, Started
from .verdicts import differing, over_sparsities

Json = dict[str, Any]


def table(rows: list[list[str]], head: list[str], right: tuple[int, ...] = ()) -> str:
    """Rows under a head, in columns; the columns in `right` are flush right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        parts = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), line(["─" * w for w in widths]), *(line(row) for row in rows)])


def size(count: int) -> str:
    """Bytes for people: 12.6 MB."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def percent(share: float | None) -> str:
    """A share as 74.8 %, a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def inspect(info: Json) -> str:
    """The layer table."""
    rows = [
        [
            layer["path"],
            layer["kind"],
            "×".join(map(str, layer["shape"])),
            "×".join(map(str, layer["gemm"])) if layer["gemm"] else "–",
            f"{layer['params']:,}",
            percent(layer["density"]),
            "yes" if layer["prunable"] else f"no: {layer['reason']}",
        ]
        for layer in info["layers"]
    ]
    head = ["layer", "type", "shape", "W[out×in]", "params", "density", "prunable"]
    flops = f", {info['flops'] / 1e9:.2f} GFLOPs a sample" if info["flops"] else ""
    lines = [
        table(rows, head, right=(4, 5)),
        f"\n{info['name']}: {info['params']:,} parameters, {size(info['bytes'])}{flops}, "
        f"{info['prunable']} of {len(info['layers'])} layers prunable",
        *(f"note: {note}" for note in info["notes"]),
    ]
    if "check" in info:
        check = info["check"]
        lines.append(
            f"check: {len(check['layers'])} layers through their GEMM view, largest relative "
            f"difference {check['largest']:.2e}"
        )
        lines += [f"not checked: {path}: {why}" for path, why in check["skipped"].items()]
    return "\n".join(lines)


def prune(report: Json) -> str:
    """What a run came to."""
    rows = [
        [
            layer["path"],
            layer["pattern"],
            percent(layer["requested"]),
            percent(layer["achieved"]),
            f"{layer['zeros']:,} of {layer['weights']:,}",
        ]
        for layer in report["layers"]
    ]
    head = ["layer", "pattern", "requested", "achieved", "zeros"]
    size_now, accuracy = report["bytes"], report["accuracy"]
    lines = [
        table(rows, head, right=(2, 3, 4)),
        f"\nzeros     {percent(report['sparsity'])} of the pruned layers' weights; "
        f"{report['nonzeros']:,} of {report['params']:,} parameters are left",
        f"bytes     {size(size_now['dense'])} dense, {size(size_now['compressed'])} compressed",
        "time      not measured; secateur measure does",
    ]
    if accuracy["dense"] is not None:
        dense, pruned = percent(accuracy["dense"]), percent(accuracy["pruned"])
        lines.append(f"accuracy  {dense} dense, {pruned} pruned")
    elif accuracy["pruned"] is not None:
        lines.append(f"accuracy  {percent(accuracy['pruned'])}, trained sparse from fresh weights")
    if report.get("levels"):
        lines += ["", levels(report["levels"]), shared(report["shared"]), ""]
    lines.append(f"project   {report['project']}")
    return "\n".join(lines)


def levels(rows: list[Json]) -> str:
    """The nested levels of a run."""
    cells = [
        [
            percent(row["sparsity"]),
            percent(row["achieved"]),
            f"{row['nonzeros']:,}",
            percent(row["accuracy"]),
            size(row["bytes"]),
        ]
        for row in rows
    ]
    head = ["level", "achieved", "parameters left", "accuracy", "as a file of its own"]
    return table(cells, head, right=(0, 1, 2, 3, 4))


def shared(data: Json) -> str:
    """What one file with all levels takes."""
    index, even = data["positions"] + data["index"], data["break_even"]
    pays = "" if even is None else f"; indices cost what zeros save at {percent(even)} zeros"
    return (
        f"levels    {size(data['total'])} for all in one file, {size(sum(data['separate']))} in "
        f"one file each\n"
        f"          {size(data['values'])} of shared weights, {size(index)} of indices "
        f"({size(data['positions'])} positions, {size(data['index'])} levels){pays}"
    )


def measure(result: Json) -> str:
    """The latency table, the verdict on the whole model, and what could not be measured."""
    cells, failed = result["cells"], result["failed"]
    several, pays = differing(cells), over_sparsities(cells)
    rows = [
        [
            cell["layer"] or "whole model",
            cell["pattern"],
            percent(cell["kept"]),
            *(str(cell[key]) for key in several),
            cell["ran"],
            f"{cell['dense_ms']:.3f}",
            f"{cell['ms']:.3f}",
            _speedup(cell),
            f"±{100 * cell['spread']:.0f} %",
            _share_of_limit(cell["roofline"]),
            *([_pays_from(cell["crossover"])] if pays else []),
        ]
        for cell in cells
    ]
    numbers = [
        "dense ms",
        "ms",
        "speed-up",
        "spread",
        "of the limit",
        *(["pays from"] if pays else []),
    ]
    head = ["layer", "pattern", "kept", *several, "ran", *numbers]
    ran = head.index("ran")
    lines = [table(rows, head, right=(2, *range(ran + 1, len(head)))), ""]
    for cell in cells:
        if cell["layer"] is None:
            setting = "".join(f", {key} {cell[key]}" for key in several)
            lines.append(f"whole model{setting}: {cell['verdict']['words']}")
    reasons: dict[str, list[Json]] = {}
    for row in failed:
        reasons.setdefault(row["error"], []).append(row)
    for error, [first, *others] in reasons.items():
        more = f" and {len(others)} more" if others else ""
        lines.append(f"not measured: {first['layer'] or 'whole model'}{more}: {error}")
    known = sum(cell["cached"] for cell in cells)
    if known:
        lines.append(f"{known} of {len(cells)} measured before; --fresh times them anew")
    return "\n".join(lines).rstrip()


def _share_of_limit(roof: Json | None) -> str:
    """How near the limit, with ~ where the limit itself was measured on a busy machine."""
    if roof is None:
        return "–"
    return f"{'~' if roof['disturbed'] else ''}{100 * roof['share']:.0f} %"


def _pays_from(crossover: float | None) -> str:
    return "–" if crossover is None else f"{100 * crossover:.0f} %"


def _speedup(cell: Json) -> str:
    """A factor, only as far as the machine was quiet enough for one."""
    if cell["verdict"]["kind"] == "busy":
        return "busy"
    return f"{'~' if cell['disturbed'] else ''}{cell['speedup']:.2f}×"


def export(result: Json) -> str:
    """What an export wrote, and that it reads back."""
    lines = [
        f"{result['path']}: {size(result['bytes'])} (dense weights: {size(result['dense_bytes'])})",
        f"read back: {'equal' if result['equal'] else 'DIFFERENT'}, largest difference "
        f"{result['max_difference']:.2g}",
        *([shared(result["shared"])] if "shared" in result else []),
        *(f"note: {note}" for note in result["notes"]),
    ]
    return "\n".join(lines)


def verify(result: Json) -> str:
    """Whether two models agree."""
    largest = f"largest difference {result['max_difference']:.2g}"
    within = f"{largest} (tolerance {result['tolerance']:.1g})"
    if result["equal"]:
        verdict = f"equal: {within}"
    elif result["max_difference"] > result["tolerance"]:
        verdict = f"not equal: {within}"
    else:  # so small that only the size of the outputs tells
        verdict = (
            f"not equal: all differences together are {result['relative']:.2g} of the outputs "
            f"(tolerance {result['relative_tolerance']:.1g}); {largest}"
        )
    agreement = result["agreement"]
    lines = [f"{verdict}, over {result['inputs']} inputs"]
    if agreement is not None:
        lines.append(f"same answer on {percent(agreement)} of them")
    return "\n".join(lines)


def follow(event: Event) -> None:
    """Show a running job on stderr, one line that moves where stderr is a terminal."""
    moving = sys.stderr.isatty()
    clear = "\r\x1b[2K" if moving else ""
    if isinstance(event, Progress) and moving:
        count = f"{event.done}/{event.total} " if event.total else ""
        left = "" if event.seconds_left is None else f", {event.seconds_left:.0f} s left"
        sys.stderr.write(f"{clear}{count}{event.text}{left}")
    elif isinstance(event, Started):
        sys.stderr.write(f"{clear}{event.title}\n")
    elif isinstance(event, Log):
        sys.stderr.write(f"{clear}{'warning: ' if event.level == 'warning' else ''}{event.text}\n")
    elif isinstance(event, Metric) and "loss" in event.values and not event.past:
        values = "  ".join(f"{name} {_number(value)}" for name, value in event.values.items())
        sys.stderr.write(f"{clear}step {event.step}  {values}\n")
    sys.stderr.flush()


def _number(value: float) -> str:
    """Counts as they are, all else to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
