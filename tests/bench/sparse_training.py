"""Sparse training from scratch (S3): how well it learns, how fast it is, and what it holds.

Accuracy on the bundled digits, against the dense network, trained equally long; growth from the
costliest outputs against the whole gradient, chance, and no evolution: the order of S3's figures 8
and 10. Time per training step and per inference, bytes, and the time of changing the topology.
Without a GPU the columns for one stay empty. Prints the tables and writes them.

Run: python tests/bench/sparse_training.py [--only accuracy|trainings|speed|bytes|topology]
     [--quick] [--jobs 2] [--out RESULTS.md]

With --only, --out keeps the other parts that stand in the file already.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from secateur.engine.machine import describe
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run
from secateur.tests.bench import sparse_costs

GROWTHS = {
    "k costliest outputs (ours)": "gradient",
    "full gradient": "full",
    "random (SET)": "random",
    "no evolution": "none",
}
SHARES = (0.9, 0.97, 0.99)
ADAM = {"optimizer": "adamw", "lr": 0.01, "decay": "onecycle"}


@dataclass(frozen=True)
class Network:
    """A network on the digits, its sparsities, how they are shared out, and how it is trained."""

    address: str
    allocation: str
    shares: tuple[float, ...]
    seeds: int = 3
    growths: tuple[str, ...] = tuple(GROWTHS)
    training: dict[str, Any] = field(default_factory=lambda: {"epochs": 60, "lr": 0.1})

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.training.items())
        return f"{self.address}, {self.allocation} allocation, {settings}, {self.seeds} seeds"


NETWORKS = (
    # What the studio's dialog and the guide begin with.
    Network("new:mlp:64-256-256-256-10", "uniform", (0.9,), seeds=4),
    # S3's figures 8 and 10. Uniform 99 % would leave outputs of the first layer without inputs.
    Network("new:mlp:64-256-256-256-10", "erk", SHARES),
)
OURS, _, CHANCE, FIXED = GROWTHS
TRAININGS = (
    # The paper's loss, as the studio's dialog has it trained.
    *(
        Network(
            f"new:mlp:64-256-256-256-10{query}", "uniform", (0.9,), growths=(OURS,),
            training={"loss": "mse", "epochs": epochs, **ADAM},
        )
        for query, epochs in (("", 60), ("?activation=sigmoid", 60), ("?activation=sigmoid", 150))
    ),
    # The paper's optimizer: gradient descent without momentum.
    *(
        Network(
            "new:mlp:64-256-256-256-10", "erk", SHARES[1:], growths=(OURS, CHANCE, FIXED),
            training={"epochs": 60, "lr": lr, "momentum": 0.0},
        )
        for lr in (0.1, 0.3, 1.0)
    ),
)  # fmt: skip


def trained(case: tuple[Network, float | None, str, int, bool]) -> float:
    """The accuracy that a training reaches; without a sparsity that of the dense network."""
    network, share, growth, seed, quick = case
    torch.set_num_threads(1)
    schedule: Any = {"kind": "sparse-training", "growth": growth}
    if share is None:
        # So few that none goes: the same training of all weights.
        schedule, share = {"kind": "oneshot", "fresh": True}, 1e-9
    plan = Plan.from_json(
        {
            "rules": [{"layers": "*", "pattern": "element", "sparsity": share}],
            "allocation": network.allocation,
            "schedule": schedule,
            "seed": seed,
            "training": network.training | ({"epochs": 5} if quick else {}),
        }
    )
    run = Run(open_model(network.address), plan)
    for _ in run.events():
        pass
    assert run.outcome is not None
    reached = run.outcome.report.accuracy_pruned
    assert reached is not None
    return reached


def accuracy(networks: Sequence[Network], quick: bool, jobs: int) -> Iterator[str]:
    """A table for each network: mean over the seeds, least and most, and points lost to dense."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for network in networks:
            seeds = range(1 if quick else network.seeds)
            rows: list[tuple[str, float | None, str]] = [("dense", None, "")]
            rows += [(g, share, GROWTHS[g]) for g in network.growths for share in network.shares]
            cases = [
                (network, share, growth, seed, quick) for _, share, growth in rows for seed in seeds
            ]
            found = list(pool.map(trained, cases))
            reached = {
                row[:2]: found[index * len(seeds) : (index + 1) * len(seeds)]
                for index, row in enumerate(rows)
            }
            dense = reached["dense", None]
            yield f"{network}; dense: {_spread(dense)}\n"
            yield f"| growth | {' | '.join(f'{share:.0%}' for share in network.shares)} |"
            yield f"|---|{'---|' * len(network.shares)}"
            for name in network.growths:
                cells = []
                for share in network.shares:
                    one = reached[name, share]
                    cells.append(f"{_spread(one)} {100 * (mean(one) - mean(dense)):+.1f}")
                yield f"| {name} | {' | '.join(cells)} |"
            yield ""


def _spread(found: list[float]) -> str:
    low, high = 100 * min(found), 100 * max(found)
    return f"{100 * mean(found):.1f} ({low:.1f}–{high:.1f})"


SECTIONS: dict[str, list[tuple[str, Callable[[argparse.Namespace], Iterator[str]]]]] = {
    "accuracy": [
        (
            "Accuracy on the digits, %, and points against dense",
            lambda o: accuracy(NETWORKS, o.quick, o.jobs),
        )
    ],
    "trainings": [
        (
            "Other trainings: the squared error of sigmoids, and no momentum",
            lambda o: accuracy(TRAININGS, o.quick, o.jobs),
        )
    ],
    "speed": [
        ("Time of a training step and of an inference", lambda o: sparse_costs.speed(o.quick)),
        ("From which sparsity on it is faster", lambda o: sparse_costs.crossover(o.quick)),
    ],
    "bytes": [("Bytes that a 512x512 layer takes to learn", lambda o: sparse_costs.memory())],
    "topology": [
        (f"Changing the topology of {sparse_costs.SIDE}²", lambda o: sparse_costs.topology(o.quick))
    ],
}


def _machine() -> str:
    about = describe()
    return f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}."


def main() -> None:
    """Print what is asked for and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", choices=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="few rounds, seeds and sparsities")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = options.out.read_text("utf-8") if options.out and options.out.exists() else ""
    method = (sparse_costs.__doc__ or "").strip().split("\n\n", 1)[1]
    parts = [f"# Sparse training from scratch\n\nOf costs: {method[0].lower()}{method[1:]}\n"]
    print(parts[0])
    for name, section in SECTIONS.items():
        for title, rows in section:
            if options.only in (None, name):
                parts.append(_part(title, rows(options)))
            elif old := _kept(before, title):
                parts.append(old)
    if options.out is not None:
        options.out.write_text("\n".join(parts), encoding="utf-8")


def _part(title: str, rows: Iterator[str]) -> str:
    """A part of the results, printed as it comes; each says on which machine it was measured."""
    lines = []
    for line in chain((f"## {title}", "", _machine(), ""), rows, ("",)):
        print(line, flush=True)
        lines.append(line)
    return "\n".join(lines)


def _kept(text: str, title: str) -> str:
    """The part with this title in results that were written before; empty: there is none."""
    begin = text.find(f"## {title}\n")
    if begin < 0:
        return ""
    end = text.find("\n## ", begin)
    return text[begin : end if end >= 0 else len(text)].rstrip("\n") + "\n"


if __name__ == "__main__":
    main()
