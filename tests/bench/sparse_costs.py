"""What a step, an answer, a byte and a change of topology cost: part of `sparse_training.py`.

All candidates of a row take turns in one run, and ratios are of their medians. Dense is torch's
linear layer; masked is that layer as `torch.nn.utils.prune` masks it; frozen keeps pruned weights
zero by masking the gradient alone, the least that masks can cost. All learn by SGD with momentum.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, pairwise, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from secateur.engine.bitmasks import BitMask
from secateur.engine.models import open_model
from secateur.engine.runs.evolution import weights_at
from secateur.kernels.growing.candidates import costliest, drawn, largest
from secateur.kernels.growing.exchange import Pace, exchange
from secateur.kernels.growing.start import deviation, fresh
from secateur.kernels.modules.evolving import Evolving, evolving

SIDE = 3072
NETWORKS = {
    f"{SIDE}²": None,
    "784-512x5-10": "new:mlp:784-512-512-512-512-512-10",
    "784-256x3-10": "new:mlp:784-256-256-256-10",
    "784-300-100-10": "new:mlp:784-300-100-10",
}
BATCHES = (128, 512)
SPARSITIES = (0.8, 0.9, 0.95, 0.97, 0.99)
CROSSOVER = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
EVERY = 50
GROWTHS = ("gradient", "full", "random")
# The share that goes, and within how many deviations such a share of a normal distribution lies.
GONE = {", a tenth": (0.1, 0.1257), ", half": (0.5, 0.6745)}
CANDIDATES = ("dense", "masked", "frozen", "sparse")

Work = Callable[[], Any]


def network(name: str) -> nn.Module:
    """The dense network of this name; the square layer is one that stands between others."""
    address = NETWORKS[name]
    if address is None:
        return nn.Sequential(nn.Linear(SIDE, SIDE))
    return open_model(address).runnable()


def sparse(dense: nn.Module, sparsity: float) -> nn.Module:
    """A network of the same shape with all its linear layers in CSR."""
    generator = torch.Generator().manual_seed(0)
    made = copy.deepcopy(dense)
    for name, layer in dense.named_children():
        if isinstance(layer, nn.Linear):
            shape = (layer.out_features, layer.in_features)
            count = max(weights_at(sparsity, shape), shape[0])
            setattr(made, name, evolving(layer, fresh(shape, count, generator)))
    return made


def masked(dense: nn.Module, sparsity: float, *, frozen: bool) -> nn.Module:
    """A dense network with masks at random, each on its weight or only on its gradient."""
    made = copy.deepcopy(dense)
    for layer in made.modules():
        if isinstance(layer, nn.Linear):
            mask = (torch.rand(layer.weight.shape) >= sparsity).float()
            if frozen:
                layer.weight.data *= mask
                layer.weight.register_hook(lambda grad, mask=mask: grad * mask)
            else:
                prune.custom_from_mask(layer, "weight", mask)
    return made


def candidates(name: str, sparsity: float) -> dict[str, nn.Module]:
    """The networks that take turns, by the names of `CANDIDATES`."""
    dense = network(name)
    return {
        "dense": dense,
        "masked": masked(dense, sparsity, frozen=False),
        "frozen": masked(dense, sparsity, frozen=True),
        "sparse": sparse(dense, sparsity),
    }


def steps(models: dict[str, nn.Module], x: Tensor, labels: Tensor) -> dict[str, Work]:
    """A training step of each: forward, backward, update."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        # A layer between others has to hand its gradient on.
        given = x.detach().requires_grad_(x.shape[1] == SIDE)
        F.cross_entropy(model(given), labels).backward()
        optimizer.step()

    made = {}
    for name, model in models.items():
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9)
        made[name] = partial(step, model, optimizer)
    return made


def answers(models: dict[str, nn.Module], x: Tensor) -> dict[str, Work]:
    """An inference of each."""

    def answer(model: nn.Module) -> None:
        with torch.inference_mode():
            model(x)

    return {name: partial(answer, model.eval()) for name, model in models.items()}


def interleaved(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """The median milliseconds of each, which take turns; two rounds before are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 2):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            if number >= 2:
                taken[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(each) for name, each in taken.items()}


def speed(quick: bool) -> Iterator[str]:
    """Time per training step and per inference, by network, batch and sparsity."""
    yield from _head(
        "network", "batch", "sparsity", *(f"{name} ms" for name in CANDIDATES),
        "to masked", "to frozen", "to dense", "on a GPU, to dense tf32",
    )  # fmt: skip
    rounds = 3 if quick else 11
    for phase, name, batch in product(("training", "inference"), NETWORKS, BATCHES):
        x = torch.randn(batch, SIDE if NETWORKS[name] is None else 784)
        labels = torch.randint(10, (batch,))
        for share in SPARSITIES[1::3] if quick else SPARSITIES:
            models = candidates(name, share)
            works = steps(models, x, labels) if phase == "training" else answers(models, x)
            ms = interleaved(works, rounds)
            ratios = (ms[other] / ms["sparse"] for other in ("masked", "frozen", "dense"))
            yield _row(
                f"{name}, {phase}", batch, f"{share:.0%}", *(f"{ms[n]:.2f}" for n in CANDIDATES),
                *(f"{ratio:.1f}x" for ratio in ratios), "",
            )  # fmt: skip


def crossover(quick: bool) -> Iterator[str]:
    """From which sparsity on CSR beats the dense layer."""
    for phase, (name, batch) in product(
        ("inference", "training"), (pair for pair in product(list(NETWORKS)[:2], BATCHES))
    ):
        x = torch.randn(batch, SIDE if NETWORKS[name] is None else 784)
        labels, found = torch.randint(10, (batch,)), []
        for share in CROSSOVER[-3:] if quick else CROSSOVER:
            models = {"dense": network(name), "sparse": sparse(network(name), share)}
            works = steps(models, x, labels) if phase == "training" else answers(models, x)
            ms = interleaved(works, 3 if quick else 5)
            found.append((share, math.log(ms["dense"] / ms["sparse"])))
        paper = "30 %" if phase == "inference" else "82 %"
        words = _crossing(found)
        yield f"- {phase}, {name}, batch {batch}: {words}; the paper's, on a GPU: {paper}"


def _crossing(found: list[tuple[float, float]]) -> str:
    """The first crossing of zero, between the sparsities measured on either side of it."""
    if found[0][1] >= 0:
        return f"faster at {found[0][0]:.0%} already, the least that was measured"
    for (low, below), (high, above) in pairwise(found):
        if above >= 0:
            return f"from {low + (high - low) * below / (below - above):.0%} on"
    return f"not up to {found[-1][0]:.0%}, the most that was measured"


def held(model: nn.Module, optimizer: str) -> dict[str, int]:
    """Bytes that a network holds while it learns, after a step, by what they are for."""
    made: torch.optim.Optimizer = {
        "SGD": lambda: torch.optim.SGD(model.parameters(), 0.1),
        "momentum": lambda: torch.optim.SGD(model.parameters(), 0.1, 0.9),
        "Adam": lambda: torch.optim.Adam(model.parameters(), 0.1),
    }[optimizer]()
    model(
        torch.randn(4, next(iter(model.children())).sizes[1] if _in_csr(model) else 512)
    ).sum().backward()
    made.step()
    state = [v for each in made.state.values() for v in each.values() if isinstance(v, Tensor)]
    across = ("transposed_crow", "transposed_columns", "transposed_places", "transposed_order")
    buffers = dict(model.named_buffers())
    turned = [buffers[name] for name in buffers if name.rpartition(".")[2] in across]
    indices = [part for part in buffers.values() if not any(part is one for one in turned)]
    return {
        "weights": _bytes(model.parameters()),
        "gradients": _bytes(p.grad for p in model.parameters() if p.grad is not None),
        "optimizer": _bytes(state),
        "indices": _bytes(indices),
        "transposed": _bytes(turned),
    }


def _in_csr(model: nn.Module) -> bool:
    return isinstance(next(iter(model.children())), Evolving)


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def memory() -> Iterator[str]:
    """Bytes against dense at each sparsity, of the 512x512 layer of the paper's figure 7."""
    yield from _head(
        "sparsity", "optimizer", "dense", "sparse", "of it: weights, gradients, optimizer",
        "indices", "indices of the transpose", "share of dense", "as the paper counts",
    )  # fmt: skip
    dense = nn.Sequential(nn.Linear(512, 512))
    for share, optimizer in product((0.3, 0.5, *SPARSITIES), ("SGD", "momentum", "Adam")):
        whole = sum(held(copy.deepcopy(dense), optimizer).values())
        parts = held(sparse(dense, share), optimizer)
        learning = parts["weights"] + parts["gradients"] + parts["optimizer"]
        total = sum(parts.values())
        paper = ""
        if optimizer == "SGD":
            # Values, gradients, biases and theirs, columns and row pointers; no optimizer.
            rows = 4 * 513
            counted = learning + 4 * weights_at(share, (512, 512)) + rows
            paper = f"{whole / counted:.1f}x smaller"
        yield _row(
            f"{share:.0%}", optimizer, f"{whole:,}", f"{total:,}", f"{learning:,}",
            f"{parts['indices']:,}", f"{parts['transposed']:,}", f"{total / whole:.3f}", paper,
        )  # fmt: skip


def topology(quick: bool) -> Iterator[str]:
    """The time of an exchange, as a share of the steps that it is spread over.

    A tenth of the weights goes, and half of them, the most that a plan can ask for. Then the dense
    product behind growth from the full gradient alone.
    """
    yield from _head(
        "sparsity", "batch", "growth", "weights exchanged", "exchange ms", "step ms",
        f"share of time at one in {EVERY} steps", "product of the full gradient", "on a GPU",
    )  # fmt: skip
    for share, batch in product(SPARSITIES[1::3] if quick else SPARSITIES, BATCHES):
        model = sparse(network(f"{SIDE}²"), share)
        layer = next(iter(model.children()))
        assert isinstance(layer, Evolving)
        x, *grads = torch.randn(9, batch, SIDE)
        labels = torch.randint(10, (batch,))
        counts: dict[str, int] = {}
        works: dict[str, Work] = {
            "step": steps({"sparse": model}, x, labels)["sparse"],
            "product": lambda x=x, grad=grads[0]: [part @ x for part in grad.t().split(SIDE // 8)],
        }
        for growth, gone in product(GROWTHS, GONE):
            works[growth + gone] = _exchange(layer, x, grads, growth, gone, counts)
        ms = interleaved(works, 2 if quick else 5)
        for name in list(works)[2:]:
            every = EVERY * ms["step"] + ms[name]
            alone = f"{ms['product']:.1f} ms" if name.startswith("full") else ""
            yield _row(
                f"{share:.0%}", batch, name, f"{counts[name]:,}", f"{ms[name]:.1f}",
                f"{ms['step']:.1f}", f"{ms[name] / every:.1%}", alone, "",
            )  # fmt: skip


def _exchange(
    layer: Evolving, x: Tensor, grads: list[Tensor], growth: str, gone: str, counts: dict[str, int]
) -> Work:
    """An exchange of weights, put into the layer, with the momentum carried on and its mask.

    The gradients take turns, as one of them would soon fill the rows that it prefers.
    """
    generator, turns = torch.Generator().manual_seed(0), cycle(grads)
    values, momentum = torch.randn(2, len(layer.values))
    values *= deviation(layer.matrix.shape, len(values))
    share, deviations = GONE[gone]
    threshold = deviations * deviation(layer.matrix.shape, len(values))

    def grow(left: Any, count: int) -> Any:
        counts[growth + gone], grad = count, next(turns)
        if growth == "random":
            return drawn(left, count, generator)
        rows = torch.arange(left.shape[0])
        if growth == "gradient":
            rows = costliest(layer.costs(grad), left, count)
        return largest(left, count, lambda some: layer.gradient_rows(x, grad, some), rows)

    def work() -> None:
        with torch.no_grad():
            layer.values.copy_(values)
            keep = len(values)
            made = exchange(layer.matrix, threshold, Pace(share, 1.1), keep, grow)
            layer.replace(made.evolved.matrix)
            made.evolved.carry(momentum)
            BitMask.at(layer.matrix)

    return work


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield f"|{'---|' * len(cells)}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
