"""Every short form of a pattern through `secateur prune` on real architectures: time and memory.

Each line is one process, from its start to the saved project: wall seconds, the peak of its
resident memory as this process sees it every 10 ms, and how often the model's own weights fit into
that peak. `open` is `secateur inspect` of the same model: what the libraries and the weights take
before anything is pruned. It takes minutes, so `make bench` leaves it out.

Run: python tests/bench/short_forms.py [MODEL …] [--forms FORM …] [--allocation WORD]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SPARSITY = 0.5
FORMS = (
    "element", "vector:4", "nm:2:4", "nm:4:8", "block:4x4", "block:8x1", "group", "column", "row",
    "filter", "channel", "kernel:4", "head", "layer",
)  # fmt: skip
NETWORKS = ("vgg16", "resnet18", "vit_b_16", "convnext_tiny")
MODELS = (*(f"torchvision:{name}" for name in NETWORKS), "bert")
KEYS = {"layers", "params", "nonzeros", "accuracy", "sparsity", "bytes", "seconds", "project"}


def make_bert(folder: Path) -> str:
    """A BERT with the layer shapes of bert-base, but two blocks of them and random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(num_hidden_layers=2, num_labels=16)  # no matrix is smaller than a block
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def watch(*command: str) -> tuple[float, int, dict[str, Any]]:
    """Run a command of ours; its seconds, its peak of resident bytes and what it printed."""
    began, peak = time.perf_counter(), 0
    argv = [sys.executable, "-m", "secateur.engine", *command, "--json"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = psutil.Popen(argv, stdout=out, stderr=err)
        while child.poll() is None:
            try:
                peak = max(peak, child.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        if child.wait() != 0:
            raise RuntimeError(err.read().decode().strip().splitlines()[-1])
        return seconds, peak, json.loads(out.read())


def globs(info: dict[str, Any], form: str) -> list[str]:
    """What the rules of the plan match: all layers, or those that have what the pattern needs."""
    rows = [row for row in info["layers"] if row["prunable"]]
    kind, _, setting = form.partition(":")
    if kind == "kernel":
        return [r["path"] for r in rows if math.prod(r["view"]["kernel"]) > int(setting)]
    if kind == "head":
        return [r["path"] for r in rows if 0 < r["view"]["head"] < r["gemm"][1]]
    return [r["path"] for r in rows if r["branch"]] if kind == "layer" else ["*"]


def write_plan(path: Path, form: str, layers: list[str], allocation: str) -> None:
    rule: dict[str, Any] = {"pattern": form}
    if not form.startswith("nm"):
        rule["sparsity"] = SPARSITY
    rules = [{"layers": glob, **rule} for glob in layers]
    path.write_text(json.dumps({"rules": rules, "allocation": allocation}))


def check(result: dict[str, Any], form: str) -> str:
    """The largest miss of any layer, in words; raises where the JSON lacks what it promises."""
    missing = KEYS - result.keys()
    if missing:
        raise RuntimeError(f"the JSON has no {missing}")
    rows = result["layers"]
    if not rows or any(row["pattern"] != form for row in rows):
        raise RuntimeError("not every layer carries the pattern that was asked for")
    worst = max(rows, key=lambda row: abs(row["requested"] - row["achieved"]))
    miss = abs(worst["requested"] - worst["achieved"])
    where = f" ({worst['path']})" if miss > 1e-3 else ""
    return f"{len(rows):3} layers, {result['sparsity']:.4f}, off by at most {miss:.4f}{where}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--forms", nargs="*", default=FORMS)
    parser.add_argument("--allocation", default="uniform")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    print(f"{SPARSITY:.0%}, allocation {args.allocation}")
    print(f"{'model':26}{'form':10}{'s':>7}{'GiB':>7}{'x weights':>10}  achieved")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for model in args.models:
            address = make_bert(place / "bert") if model == "bert" else model
            seconds, peak, info = watch("inspect", address)

            def line(form: str, seconds: float, peak: int, words: str, info: Any = info) -> None:
                numbers = f"{seconds:7.1f}{peak / 2**30:7.2f}{peak / info['bytes']:10.1f}"
                print(f"{info['name']:26.25}{form:10}{numbers}  {words}", flush=True)

            line("open", seconds, peak, f"weights {info['bytes'] / 2**30:.2f} GiB")
            for form in args.forms:
                if not (layers := globs(info, form)):
                    continue
                plan = place / "plan.json"
                write_plan(plan, form, layers, args.allocation)
                out = place / f"{info['name'].replace('/', '-')}-{form.replace(':', '-')}"
                try:
                    seconds, peak, result = watch(
                        "prune", address, "--plan", str(plan), "--out", str(out)
                    )
                    line(form, seconds, peak, check(result, form))
                except RuntimeError as error:
                    print(f"{info['name']:26.25}{form:10} FAILED: {error}", flush=True)


if __name__ == "__main__":
    main()
