"""Follow and compact networks, one row each.

    python tests/bench/bench_trace.py [NAME or GLOB ...] [--seconds 10]

Without names all of torchvision's classification networks, with random weights. Half of what can
be removed of each is masked, unit by unit as the trace ties them, and then compacted; the outputs
of the smaller model are checked against those of the masked one. "pruned" counts the networks that
became smaller.
"""

from __future__ import annotations

import argparse
import fnmatch
import time
import warnings

import numpy as np
import torch
import torchvision

from secateur.engine.compaction import compact
from secateur.engine.dependencies import Channels, trace
from secateur.engine.masks import Masks
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.engine.models.torchvision import build, example

# These take one size only.
_SMALL = 96
_FIXED = ("vit", "maxvit", "inception", "googlenet")


def classifiers() -> list[str]:
    """torchvision's classification networks that are not quantised."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def opened(name: str) -> Model:
    """The network with random weights, on small images where it takes any size."""
    module = build(name)
    inputs, _ = example(module)
    if not name.startswith(_FIXED):

        def inputs(batch: int) -> tuple[tuple[torch.Tensor], dict[str, object]]:
            generator = torch.Generator().manual_seed(0)
            return (torch.randn(batch, 3, _SMALL, _SMALL, generator=generator),), {}

    return from_module(module, address=f"torchvision:{name}", name=name, inputs=inputs)


def half(model: Model, channels: Channels, seed: int = 0) -> Masks:
    """Masks that remove half of what can be removed, in units that go only together."""
    generator = np.random.default_rng(seed)
    units = {layer.path: channels.units(layer.path) for layer in model.info.prunable}
    known = np.unique(np.concatenate(list(units.values())))
    gone = generator.choice(known[known >= 0], size=(known >= 0).sum() // 2, replace=False)
    masks = Masks()
    for layer in model.info.prunable:
        assert layer.gemm is not None
        kept = torch.from_numpy(~np.isin(units[layer.path], gone))
        if len(kept) != layer.gemm.shape[0] or bool(kept.all()):
            continue
        masks.layers[layer.path] = kept[:, None].expand(layer.gemm.shape).clone()
        for name in channels.vectors(layer.path):
            masks.vectors[name] = masks.vectors.get(name, torch.ones_like(kept)) & kept
    return masks


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=["*"])
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [n for n in classifiers() if any(fnmatch.fnmatch(n, g) for g in given.names)]
    head = ("network", "trace s", "free", "params", "smaller", "share", "compact s", "problem")
    print("{:22} {:>8} {:>9} {:>11} {:>11} {:>6} {:>9}  {}".format(*head), flush=True)
    pruned, slowest = 0, 0.0
    for name in names:
        model = opened(name)
        begin = time.perf_counter()
        channels = trace(model, given.seconds)
        seconds = time.perf_counter() - begin
        slowest = max(slowest, seconds)
        free = sum(channels.fixed(layer.path) is None for layer in model.info.prunable)
        masks = half(model, channels)
        begin = time.perf_counter()
        result = compact(model, masks)
        taken = time.perf_counter() - begin
        pruned += result.params_after < result.params_before
        share = result.params_after / result.params_before
        failed = [note for note in result.notes if "kept whole" in note]
        problem = channels.problem or (f"{len(failed)}: {failed[0]}" if failed else "")
        print(
            f"{name:22} {seconds:8.2f} {free:4}/{len(model.info.prunable):<4} "
            f"{result.params_before:11} {result.params_after:11} {share:6.2f} "
            f"{taken:9.2f}  {problem}",
            flush=True,
        )
    print(f"{pruned} of {len(names)} pruned; the slowest trace took {slowest:.1f} s")


if __name__ == "__main__":
    main()
