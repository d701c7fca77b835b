"""Every schedule against the others: accuracy, time and steps, over seeds.

Each run prunes all layers of a model uniformly, trains it with SGD, the ViT with AdamW as its
recipe does, and is measured on the validation split. Three groups: pruning a trained model; 2:4,
with and without training; sparse training from scratch (S3, figure 10). Runs that a results file
already holds are not repeated, so that the table grows from call to call; delete the file of runs
to start anew. Prints the tables and writes them.

Run: python tests/bench/schedules.py [--models A,B] [--schedules REGEX] [--sparsities 50,90]
     [--seeds 3] [--epochs 20] [--jobs 2] [--out RESULTS.md]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from tempfile import gettempdir
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from secateur import __version__
from secateur.engine.files import replacing
from secateur.engine.machine import describe
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run
from secateur.resources.samples import digits
from secateur.resources.samples.train_digits import RECIPES

RESULT = Path(__file__).with_name("results") / "schedules.md"
MLP_EPOCHS = 40
MODELS = ("digits-resnet", "digits-vit", "mlp-300-100")
PRUNING = {
    "one-shot": {"kind": "oneshot"},
    "gradual (AGP)": {"kind": "agp"},
    "iterative": {"kind": "iterative"},
    "iterative, rate rewound": {"kind": "iterative", "rewind": "rate"},
    "iterative, weights rewound": {"kind": "iterative", "rewind": "weights"},
    "movement, hard": {"kind": "movement"},
    "movement, hard, as published": {"kind": "movement", "magnitude": 0},
    "movement, soft": {"kind": "movement", "form": "soft"},
    "ADMM": {"kind": "admm"},
    "learned threshold (DST)": {"kind": "dst"},
    "learned gates": {"kind": "gates"},
    "SET": {"kind": "set"},
    "RigL": {"kind": "rigl"},
}
FLAT, PERMUTED = {"kind": "nm:2:4"}, {"kind": "nm:2:4", "order": "channel", "permute": True}
CHANNEL = {"kind": "nm:2:4", "order": "channel"}
TWO_OF_FOUR: dict[str, tuple[Any, Any, int | None]] = {
    # The schedule, the pattern, and the epochs: None for those of the call, times three for Gumbel.
    "2:4 magnitude, no training": ({"kind": "oneshot"}, FLAT, 0),
    "2:4 magnitude, channel order, no training": ({"kind": "oneshot"}, CHANNEL, 0),
    "2:4 permuted, no training": ({"kind": "oneshot"}, PERMUTED, 0),
    "2:4 one-shot, retrained": ({"kind": "oneshot"}, FLAT, None),
    "2:4 Gumbel, weights frozen": ({"kind": "gumbel"}, FLAT, 3),
    "2:4 Gumbel, channel order": ({"kind": "gumbel"}, CHANNEL, 3),
    "2:4 Gumbel, random start": ({"kind": "gumbel", "start": "random"}, FLAT, 3),
}
SCRATCH = {
    "scratch: pruned at initialisation (SNIP)": {"kind": "oneshot", "fresh": True},
    "scratch: fixed random topology": {
        "kind": "set", "fresh": True, "start": "random", "share": 0,
    },
    "scratch: SET": {"kind": "set", "fresh": True, "start": "random"},
    "scratch: RigL": {"kind": "rigl", "fresh": True, "start": "random"},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One run: `sparsity` in [0, 1), or None where the pattern says it."""

    model: str
    name: str
    schedule: dict[str, Any]
    sparsity: float | None
    seed: int
    epochs: int
    lr: float
    pattern: Any = "element"
    criterion: str = "magnitude"

    @property
    def key(self) -> str:
        """Names the run in the file of runs."""
        return json.dumps(asdict(self), sort_keys=True)

    def plan(self) -> Plan:
        """The plan of this run."""
        rule = {"layers": "*", "pattern": self.pattern, "criterion": self.criterion}
        rule |= {"skip_misfits": True} if self.sparsity is None else {"sparsity": self.sparsity}
        training = {"data": "sample:digits", "epochs": self.epochs, "lr": self.lr}
        if self.model == "digits-vit":
            training["optimizer"] = "adamw"
        return Plan.from_json(
            {"rules": [rule], "schedule": self.schedule, "seed": self.seed, "training": training}
        )


@dataclass
class Result:
    """Accuracies in [0, 1], optimizer steps, wall seconds."""

    dense: float
    pruned: float
    sparsity: float
    steps: int
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)


def cases(options: Any) -> Iterator[Case]:
    """All runs that were asked for."""
    for seed in range(options.seeds):
        for model in options.models.split(","):
            lr = RECIPES[model].lr if model == "digits-vit" else 0.02
            for share in (float(word) / 100 for word in options.sparsities.split(",")):
                for name, schedule in PRUNING.items():
                    yield Case(model, name, schedule, share, seed, options.epochs, lr)
            for name, (schedule, pattern, times) in TWO_OF_FOUR.items():
                if pattern is PERMUTED and model == "mlp-300-100":
                    continue  # a file of weights says no input size, so channels are not followed
                epochs = options.epochs * (1 if times is None else times)
                yield Case(model, name, schedule, None, seed, epochs, lr, pattern)
            if model == "digits-vit":
                continue  # its recipe takes four times as many epochs from scratch
            for share in (0.9, 0.97, 0.99):
                for name, schedule in SCRATCH.items():
                    criterion = "snip" if "SNIP" in name else "magnitude"
                    yield Case(
                        model, name, schedule, share, seed, options.epochs, 0.1,
                        criterion=criterion,
                    )  # fmt: skip


def mlp() -> nn.Module:
    """The 300-100 network on images of 8 x 8."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip


def train_mlp(path: Path) -> None:
    """Train the 300-100 network as the samples are, and write its weights."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    module, (inputs, labels) = mlp(), digits.read("train")
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3)
    for _ in range(MLP_EPOCHS):
        for chosen in torch.randperm(len(labels), generator=generator).split(64):
            output = module(digits.shift(inputs[chosen], generator))
            optimizer.zero_grad()
            nn.functional.cross_entropy(output, labels[chosen]).backward()
            optimizer.step()
    with replacing(path) as temporary:
        save_file(module.state_dict(), temporary)


def opened(name: str) -> Model:
    """The dense model of that name."""
    if name != "mlp-300-100":
        return open_model(f"sample:{name}")
    path = Path(gettempdir()) / f"secateur-bench-mlp-{os.getuid()}.safetensors"
    if not path.exists():
        train_mlp(path)
    return open_model(str(path), arch="secateur.tests.bench.schedules:mlp")


def run(case: Case) -> Result:
    """One run, on one thread."""
    torch.set_num_threads(1)
    job = Run(opened(case.model), case.plan())
    started = time.perf_counter()
    for _ in job.events():
        pass
    seconds = time.perf_counter() - started
    assert job.outcome is not None
    report = job.outcome.report
    return Result(
        report.accuracy_dense or 0.0,
        report.accuracy_pruned or 0.0,
        report.sparsity,
        report.steps,
        seconds,
        {"secateur": __version__, "torch": torch.__version__},
    )


def original_steps(model: str) -> int:
    """Optimizer steps that the dense model was trained for."""
    epochs = RECIPES[model].epochs if model in RECIPES else MLP_EPOCHS
    return epochs * -(-len(digits.read("train")[1]) // 64)


def main() -> None:
    options = _options()
    kept = Path(options.out).with_suffix(".json")
    found: dict[str, Result] = {}
    if kept.exists():
        found = {key: Result(**one) for key, one in json.loads(kept.read_text()).items()}
    wanted = [case for case in cases(options) if re.search(options.schedules, case.name)]
    for name in {case.model for case in wanted}:
        opened(name)  # trains the 300-100 network once, before processes would do so at once
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(run, case): case for case in wanted if case.key not in found}
        for job in as_completed(jobs):
            case, result = jobs[job], job.result()
            found[case.key] = result
            share = f" {case.sparsity:.0%}" if case.sparsity is not None else ""
            print(
                f"{case.model} · {case.name}{share} · seed {case.seed}: {result.pruned:.1%} of "
                f"{result.dense:.1%}, {result.seconds:.0f} s",
                flush=True,
            )
            _write(options, kept, found)
    print(f"\n{_write(options, kept, found)}")


def _write(options: Any, kept: Path, found: dict[str, Result]) -> str:
    kept.parent.mkdir(exist_ok=True)
    with replacing(kept) as temporary:
        runs = {key: asdict(found[key]) for key in sorted(found)}
        temporary.write_text(json.dumps(runs, indent=0), encoding="utf-8")
    text = report([(Case(**json.loads(key)), one) for key, one in found.items()])
    with replacing(Path(options.out)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def report(runs: list[tuple[Case, Result]]) -> str:
    """The tables, in Markdown."""
    machine = describe()
    torches = sorted({one.versions["torch"] for _, one in runs})
    lines = [
        f"{machine['cpu']}, one thread a run, torch {', '.join(torches)}, secateur {__version__}",
        "",
        "Per cent of the validation images (359) that are right: mean over the seeds (lowest to "
        "highest), then the difference of the mean to the dense model in points. All layers are "
        "pruned, uniformly. Steps are per cent of those that the dense model was trained for; "
        "seconds are a mean too.",
    ]
    for model in MODELS:
        ours = [(case, one) for case, one in runs if case.model == model]
        if ours:
            lines += ["", f"## {model}, dense {ours[0][1].dense:.1%}"]
        for title, names in (
            ("Pruning a trained model", PRUNING),
            ("2:4", TWO_OF_FOUR),
            ("From scratch, at a learning rate of 0.1", SCRATCH),
        ):
            lines += _table(title, [pair for pair in ours if pair[0].name in names], list(names))
    return "\n".join(lines) + "\n"


def _table(title: str, runs: list[tuple[Case, Result]], names: list[str]) -> list[str]:
    if not runs:
        return []
    shares = sorted({case.sparsity or 0.5 for case, _ in runs})
    heads = ["schedule", *(f"{share:.0%}" for share in shares), "seeds", "epochs", "steps", "s"]
    lines = ["", f"### {title}", "", _row(heads), "|---" * len(heads) + "|"]
    for name in names:
        for epochs in sorted({case.epochs for case, _ in runs if case.name == name}):
            mine = [pair for pair in runs if pair[0].name == name and pair[0].epochs == epochs]
            cells = [
                _cell([one for case, one in mine if (case.sparsity or 0.5) == share])
                for share in shares
            ]
            counts = [sum((case.sparsity or 0.5) == share for case, _ in mine) for share in shares]
            seeds = "–".join(str(count) for count in sorted({min(counts), max(counts)}))
            steps = mean(one.steps for _, one in mine) / original_steps(mine[0][0].model)
            seconds = mean(one.seconds for _, one in mine)
            lines.append(_row([name, *cells, seeds, str(epochs), f"{steps:.0%}", f"{seconds:.0f}"]))
    return lines


def _cell(found: list[Result]) -> str:
    if not found:
        return "–"
    reached = [100 * one.pruned for one in found]
    away = mean(reached) - 100 * found[0].dense
    return f"{mean(reached):.1f} ({min(reached):.1f}–{max(reached):.1f}) {away:+.1f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--schedules", default="", help="only those that this regex finds")
    parser.add_argument("--sparsities", default="50,75,90,95", help="per cent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a thread each")
    parser.add_argument("--out", default=str(RESULT))
    return parser.parse_args()


if __name__ == "__main__":
    main()
