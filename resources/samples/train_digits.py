"""Train a bundled network on the digits and write its weights beside this file.

``python -m secateur.resources.samples.train_digits digits-resnet``
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import digits, weights
from .models import SAMPLES


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a network is trained; AdamW with one cycle of the learning rate."""

    epochs: int
    lr: float
    weight_decay: float = 0.01
    batch: int = 64
    seed: int = 0


RECIPES = {
    "digits-resnet": Recipe(epochs=15, lr=5e-3),
    "digits-vit": Recipe(epochs=80, lr=4e-3),
}


def train(name: str, recipe: Recipe) -> nn.Module:
    """Train a fresh network on the training split; its validation split is never seen here."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    module = SAMPLES[name]()
    inputs, labels = digits.read("train")
    steps = -(-len(labels) // recipe.batch)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, epochs=recipe.epochs, steps_per_epoch=steps
    )
    module.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels), generator=generator)
        for chosen in order.split(recipe.batch):
            logits = module(digits.shift(inputs[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    return module.eval()


@torch.no_grad()
def accuracy(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of `inputs` whose highest logit is at the label, in [0, 1]."""
    return float((module(inputs).argmax(1) == labels).double().mean())


def save(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the parameters and buffers; the old file stays until the new one is complete.

    Of several keys in `metadata` safetensors changes the order at random; one gives equal bytes.
    """
    state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    part = path.with_suffix(".part")
    part.write_bytes(safetensors.torch.save(state, metadata))
    part.replace(path)


def main() -> None:
    """Train, measure and write the network that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=sorted(SAMPLES))
    name = parser.parse_args().name
    torch.set_num_threads(1)  # several threads add in another order: other weights
    torch.use_deterministic_algorithms(True)
    recipe = RECIPES[name]
    start = time.perf_counter()
    module = train(name, recipe)
    seconds = time.perf_counter() - start
    scores = {split: accuracy(module, *digits.read(split)) for split in ("train", "validation")}
    kept = {"accuracy": scores["validation"], "epochs": recipe.epochs, "seed": recipe.seed}
    save(module, weights(name), {"training": json.dumps(kept)})
    print(f"{name}: {asdict(recipe)} in {seconds:.1f} s")
    for split, score in scores.items():
        print(f"{split}: {score:.2%}")


if __name__ == "__main__":
    main()
