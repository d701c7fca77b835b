"""`secateur measure`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import text
from ..errors import BadInput

if TYPE_CHECKING:
    from ..masks import Masks
    from ..models.model import Model

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the model's own."""
    add = parser.add_argument
    add("--batch", default="1", help="samples in one pass, or several, such as 1,8")
    add("--device", default="auto", help="auto, cpu or cuda, or several, such as cpu,cuda")
    add("--dtypes", help="of float32,bfloat16,float16; default: as the model was saved")
    add("--patterns", help="comma-separated, such as group,filter")
    add("--sparsities", help="comma-separated, such as 0.5,0.75")
    add("--layers", help="comma-separated globs; default: all")
    add("--steps", action="store_true", help="also time the steps of each form")
    add("--every", action="store_true", help="also time the forms that are known to lose")
    add("--fresh", action="store_true", help="ignore what was measured before")
    add("--table", metavar="FILE.json", help="write the latency table, also when stopped")


def run(
    args: argparse.Namespace,
    model: Model,
    masks: Masks | None,
    labels: Mapping[str, str],
    cancel: Callable[[], bool],
) -> tuple[Json, str]:
    """The result, and as text; progress goes to stderr. `labels` name a project's patterns."""
    from ...kernels.dispatch.memory import Memory, default_folder
    from ..events import Finished
    from .measure import measure
    from .request import Request

    request = Request(
        batches=_batches(args.batch),
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
    for event in measure(model, masks, request, labels=labels, memory=memory, cancel=cancel):
        text.follow(event)
        if isinstance(event, Finished):
            return event.result, text.measure(event.result)
    raise KeyboardInterrupt


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
