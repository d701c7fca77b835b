"""`secateur prune`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from ..control import Control
from ..errors import BadInput
from ..interrupts import interrupt_cancels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the model's own."""
    parser.add_argument("--plan", required=True, help="plan file, YAML or JSON, or preset:NAME")
    parser.add_argument("--out", required=True, help="folder for the project")
    parser.add_argument(
        "--data",
        help="data to calibrate, retrain and evaluate on: sample:digits, a folder of class "
        "folders, cifar10:, mnist:, fashion-mnist: or imagenet:ROOT, glue:, datasets:, higgs: or "
        "csv:PATH, or package.module:function",
    )
    parser.add_argument("--download", action="store_true", help="fetch the data if it is not there")
    parser.add_argument(
        "--restart",
        action="store_true",
        help="begin anew: replace a checkpoint in --out, and a checkpoint or project of another "
        "model or plan, which else is refused",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Run the plan and write the project; returns its report, and as text."""
    from dataclasses import replace

    from .. import text
    from ..compiled_loops import used_by, with_loops
    from ..events import Log
    from ..models import open_model
    from ..plan import Training
    from ..plan.presets import load_plan
    from ..project import check_folder, make_folder
    from .checkpoint import CHECKPOINT, check_free
    from .runner import Run

    plan = load_plan(args.plan)
    folder = Path(args.out)
    check_folder(folder)
    if args.data == "":
        raise BadInput("--data needs an address, such as sample:digits or a folder")
    if args.data is not None:
        training = plan.training or (Training() if plan.schedule.trains else Training(epochs=0))
        plan = replace(plan, training=replace(training, data=args.data))
    model = open_model(args.model, arch=args.arch, trust_pickle=args.trust_pickle)
    if not args.restart:
        check_free(folder, model, plan)
    if plan.model is not None and not _same_model(plan.model, args.model):
        text.follow(Log(f"the plan was made for {plan.model}, not for {args.model}", "warning"))
    if args.download:
        _fetch(plan.training.data if plan.training else None)
    control = Control()
    typed = args.data is not None  # by the person, who thereby agrees to run what it names
    job = Run(model, plan, control=control, folder=folder, device=args.device, trust_data=typed)
    make_folder(folder)
    if args.restart:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    try:
        with interrupt_cancels(control):
            events = job.events()
            for event in with_loops(events, control.cancelled) if used_by(plan) else events:
                text.follow(event)
        if job.outcome is None:
            raise KeyboardInterrupt
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing was written
        raise
    result = job.outcome.save(folder)
    return result, text.prune(result)


def _same_model(one: str, other: str) -> bool:
    """Whether two addresses name the same model, with whichever of its weights."""
    one, other = (address.partition("?")[0] for address in (one, other))
    return one == other or Path(one).resolve() == Path(other).resolve()


def _fetch(address: str | None) -> None:
    from ..data import fetch

    if address is None:
        raise BadInput("--download fetches what --data or the plan's training names; neither does")
    fetch(address)
