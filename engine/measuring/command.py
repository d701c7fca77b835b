"""`secateur measure`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import text
from ..errors import BadInput
from ..files import check_writable, replacing
from ..interrupts import StoppedHalfway
from .details import details

if TYPE_CHECKING:
    from ..masks import Masks
    from ..models.model import Model

Json = dict[str, Any]

_NOT_WITH_PAPER = (
    "dtypes", "patterns", "sparsities", "layers", "steps", "every", "fresh", "table", "level",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the model's own."""
    add = parser.add_argument
    add("--batch", help="samples in one pass, or several, such as 1,8; default: 1")
    add("--device", default="auto", help="auto, cpu or cuda, or several, such as cpu,cuda")
    add("--dtypes", help="of float32,bfloat16,float16; default: as the model was saved")
    add("--patterns", help="comma-separated, such as group,filter")
    add("--sparsities", help="comma-separated, such as 0.5,0.75")
    add("--layers", help="comma-separated globs; default: all")
    add("--steps", action="store_true", help="also time and list the steps of each form")
    add(
        "--every",
        action="store_true",
        help="also time the forms that are known to lose, and list what lost with its factor",
    )
    add("--fresh", action="store_true", help="ignore what was measured before")
    add("--table", metavar="FILE.json", help="write the latency table, also when stopped")
    add("--csv", metavar="FILE.csv", help="write every timing as a row, also when stopped")
    add(
        "--report",
        metavar="FILE.html",
        help="write a page with plots, tables and verdicts, also when stopped",
    )
    add("--paper", action="store_true", help="the paper's tables on this machine; needs no MODEL")
    add("--models", help="with --paper: of resnet18,vgg16,vit_b_16,bert-base; default: all")


def check(args: argparse.Namespace) -> None:
    """Raises BadInput for what does not go together, and for files that cannot be written."""
    for path in (args.csv, args.report):
        if path is not None:
            check_writable(path)
    if not args.paper:
        if args.model is None:
            raise BadInput("measure needs a MODEL, or --paper; see secateur measure --help")
        if args.models is not None:
            raise BadInput("--models chooses among those of --paper; add --paper or leave it out")
        return
    if args.model is not None:
        raise BadInput("--paper measures models of its own; choose among them with --models")
    for name in _NOT_WITH_PAPER:
        if getattr(args, name):
            raise BadInput(f"--{name} does not go with --paper, whose tables say what is measured")
    if len(devices := _words(args.device) or ()) > 1:
        each = " and once with ".join(f"--device {name}" for name in devices)
        raise BadInput(f"the tables of --paper are of one device; run it once with {each}")


def run(
    args: argparse.Namespace,
    model: Model,
    masks: Masks | None,
    labels: Mapping[str, str],
    cancel: Callable[[], bool],
) -> tuple[Json, str]:
    """The result, and as text; progress goes to stderr. `labels` name a project's patterns.

    If it is cancelled, the files get what was measured so far, and so does the StoppedHalfway that
    is raised; KeyboardInterrupt before the first cell.
    """
    from ...kernels.dispatch.memory import Memory, default_folder
    from ..compiled_loops import with_loops
    from ..events import Finished, LayerDone
    from ..machine import describe
    from ..report.latency import latency_html
    from ..verdicts import with_crossovers
    from .measure import measure
    from .request import Request

    request = Request(
        batches=_batches(args.batch or "1"),
        layers=_words(args.layers),
        patterns=_words(args.patterns),
        sparsities=_sparsities(args.sparsities),
        dtypes=_words(args.dtypes),
        devices=_words(args.device) or ("auto",),
        steps=args.steps,
        every=args.every,
        fresh=args.fresh,
        save=Path(args.table) if args.table else None,
    )
    memory = Memory(default_folder(), fresh=request.fresh)
    rows: list[Json] = []
    found = measure(model, masks, request, labels=labels, memory=memory, cancel=cancel)
    for event in with_loops(found, cancel):
        text.follow(event)
        if isinstance(event, LayerDone):
            rows.append(event.values)
        if isinstance(event, Finished):
            _write(args, event.result, latency_html)
            return event.result, _text(event.result, args)
    if rows:
        cells = with_crossovers([row for row in rows if "error" not in row])
        failed = [row for row in rows if "error" in row]
        table = args.table if cells else None
        result = {"machine": describe(), "cells": cells, "failed": failed, "table": table}
        _write(args, result, latency_html)
        files = [file for file in (table, args.csv, args.report) if file]
        written = f"; {', '.join(files)} written with what was measured so far" if files else ""
        raise StoppedHalfway(f"stopped{written}", result, _text(result, args))
    raise KeyboardInterrupt


def run_paper(args: argparse.Namespace, cancel: Callable[[], bool]) -> tuple[Json, str]:
    """The same for the paper's tables."""
    from ..compiled_loops import with_loops
    from ..events import Finished
    from ..report.paper import paper_html
    from . import paper_text
    from .paper import paper

    batches = _batches(args.batch) if args.batch else None
    names = _words(args.models)
    found = paper(names, device=args.device, batches=batches, cancel=cancel)
    for event in with_loops(found, cancel):
        text.follow(event)
        if isinstance(event, Finished):
            _write(args, event.result, paper_html)
            return event.result, paper_text.paper(event.result)
    raise KeyboardInterrupt


def _text(result: Json, args: argparse.Namespace) -> str:
    return "\n".join([text.measure(result), *details(result["cells"], args.every)])


def _write(args: argparse.Namespace, result: Json, html: Callable[[Json], str]) -> None:
    """The files that were asked for."""
    from ..report.cells_csv import cells_csv

    if args.csv:
        cells = [*result["cells"], *result.get("layers", ())]
        with replacing(args.csv) as file:
            file.write_text(cells_csv(cells, result["failed"]), encoding="utf-8", newline="")
    if args.report:
        with replacing(args.report) as file:
            file.write_text(html(result), encoding="utf-8")


def _batches(value: str) -> tuple[int, ...]:
    try:
        batches = tuple(int(word) for word in _words(value) or ())
    except ValueError:
        raise BadInput(f"--batch takes whole numbers such as 1,8, not {value!r}") from None
    if not batches or min(batches) < 1:
        raise BadInput(f"--batch must be at least 1, not {value}")
    return batches


def _sparsities(value: str | None) -> tuple[float, ...] | None:
    try:
        return tuple(float(word) for word in _words(value) or ()) or None
    except ValueError:
        raise BadInput(f"--sparsities takes numbers such as 0.5,0.75, not {value!r}") from None


def _words(value: str | None) -> tuple[str, ...] | None:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if value else None
