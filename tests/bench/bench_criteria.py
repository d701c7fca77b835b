"""What criteria are worth: reconstruction errors layer by layer, and one-shot accuracies.

The error of a layer is that of its outputs on 256 calibration samples, ‖(W' - W) X‖² / ‖W X‖²,
with X as the dense model gives it. Accuracies are on the validation split, without retraining.

Run: python tests/bench/bench_criteria.py
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import statistics
import time

import torch
from torch import Tensor

from secateur.engine.calibration.passes import Calibration
from secateur.engine.criteria import CRITERIA, Statistics
from secateur.engine.data import load_data
from secateur.engine.info import LayerInfo
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

NAMES = ("digits-resnet", "digits-vit")
COMPARED = ("magnitude", "wanda", "obs")
SAMPLES = 256


def error(change: Tensor, hessian: Tensor) -> float:
    split = change.view(len(hessian), -1, hessian.shape[-1])
    return float(torch.einsum("goi,gij,goj->", split, hessian, split))


def errors(model: Model, layer: LayerInfo, hessian: Tensor, word: str, sparsity: float):
    """The relative error of one layer under each compared criterion."""
    pattern, weight = PATTERNS.parse(word), model.matrix(layer.path)
    norms = hessian.diagonal(dim1=1, dim2=2).sqrt()
    known = Statistics(layer.path, 0, inputs=norms, hessian=hessian)
    assert layer.gemm is not None
    for kind in COMPARED:
        criterion = CRITERIA.parse(kind)
        mask, new = criterion.prune(weight, pattern, sparsity, layer.gemm, known)
        changed = (weight * mask if new is None else new) - weight
        yield error(changed, hessian) / error(weight, hessian)


def reconstruction(name: str) -> None:
    model = open_model(f"sample:{name}")
    assert model.info.data is not None
    calibration = Calibration(model.runnable(), load_data(model.info.data))
    for word, sparsity in (("element", 0.5), ("element", 0.7), ("nm:2:4", 0.5)):
        print(f"\n{name}, {word} at {sparsity:.0%}: error of each layer's outputs")
        print(f"{'layer':38} {'W':>9} " + " ".join(f"{kind:>10}" for kind in COMPARED))
        gains = []
        for layer in model.info.prunable:
            assert layer.gemm is not None
            hessian = calibration.hessian(layer, SAMPLES)
            assert hessian is not None
            found = list(errors(model, layer, hessian, word, sparsity))
            out, ins = layer.gemm.shape
            words = " ".join(f"{each:10.4f}" for each in found)
            print(f"{layer.path:38} {f'{out}x{ins}':>9} {words}")
            gains.append(found[0] / found[-1])
        better = sum(gain > 1 for gain in gains)
        print(
            f"magnitude's error over obs's: at least {min(gains):.2f}, median "
            f"{statistics.median(gains):.2f}; obs is better on {better} of {len(gains)} layers"
        )


def accuracies(name: str) -> None:
    print(f"\n{name}: accuracy after one shot, without retraining, and seconds of the whole run")
    shares = (0.5, 0.7)
    print(f"{'criterion':10}" + "".join(f"{f'element {s:.0%}':>14} {'s':>5}" for s in shares))
    for kind in CRITERIA.kinds():
        line = f"{kind:10}"
        for sparsity in shares:
            rule = {"layers": "*", "pattern": "element", "criterion": kind, "sparsity": sparsity}
            run = Run(open_model(f"sample:{name}"), Plan.from_json({"rules": [rule]}))
            begin = time.perf_counter()
            for _ in run.events():
                pass
            spent = time.perf_counter() - begin
            assert run.outcome is not None
            line += f"{run.outcome.report.accuracy_pruned:14.4f} {spent:5.1f}"
        print(line)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name in NAMES:
        reconstruction(name)
    for name in NAMES:
        accuracies(name)


if __name__ == "__main__":
    main()
