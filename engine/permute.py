"""Orders of input channels in which N:M keeps more, and folding them into the model.

Layers that read the same channels share one order. Masks and weights stay in the model's own order
until export; then what gives the channels and what reads them changes places together, so that the
model computes the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..kernels.selection.permutation import kept, search
from .dependencies import Channels, Order, trace
from .errors import BadInput
from .info import LayerInfo, ModelInfo
from .masks import Masks, masked
from .models.model import Model
from .outputs import Mismatch, compare_outputs, named_tensors
from .patterns.nm import NM, InOrder, lanes
from .plan import Rule

Scores = Callable[[str], Tensor]


def misfit(channels: Channels, layer: LayerInfo, pattern: NM) -> str | None:
    """Why the layer's input channels can't be put in another order, in words after its path."""
    order, gemm = channels.order(layer.path), layer.gemm
    assert gemm is not None
    if isinstance(order, str):
        return (
            f"cannot have its input channels in another order, as {order}; nm without permute "
            "would fit"
        )
    plain = np.arange(gemm.channels)
    own = [place.channel for place in order.places if place.name == layer.weight]
    if order.size != len(plain) or not any(np.array_equal(each, plain) for each in own):
        return (
            f"reads {gemm.channels} inputs that are {order.size} channels at several positions, so "
            "they cannot be put in any order; nm without permute would fit"
        )
    if order.run < order.size and order.run % pattern.m:
        return (
            f"reads heads of {order.run} channels, no multiple of {pattern.m}, and channels stay "
            "within their head; nm without permute would fit"
        )
    return None


@dataclass(frozen=True)
class Group:
    """Layers with one pattern that read the same channels. Channels stay within runs of `run`."""

    layers: tuple[str, ...]
    pattern: NM
    run: int


def groups(channels: Channels, rules: Mapping[str, Rule]) -> dict[str, Group]:
    """The group of each layer whose rule permutes. Raises BadInput where two rules disagree."""
    found: dict[str, Group] = {}
    for path, rule in rules.items():
        order = channels.order(path) if permutes(rule) else ""
        if path in found or isinstance(order, str):
            continue
        assert isinstance(rule.pattern, NM)
        members = tuple(reader for reader in order.readers if reader in rules)
        for other in members:
            theirs = rules[other].pattern
            if theirs.runs and theirs != rule.pattern:
                raise BadInput(
                    f"{other} reads the same channels as {path}, which take another order; give "
                    "both the same nm with permute"
                )
        group = Group(tuple(p for p in members if permutes(rules[p])), rule.pattern, order.run)
        found |= dict.fromkeys(group.layers, group)
    return found


def permutes(rule: Rule) -> bool:
    """Whether the rule puts channels in an order."""
    return isinstance(rule.pattern, NM) and rule.pattern.permute


@dataclass
class Orders:
    """The orders of a run, each searched when the first layer of its group is pruned.

    `found` holds them by the first layer of each group, int64 [channels]; `notes` what they are
    worth, in sentences.
    """

    info: ModelInfo
    groups: Mapping[str, Group]
    seed: int = 0
    found: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def pattern(self, path: str, scores: Scores) -> InOrder | None:
        """The layer's pattern in its order, None if its rule does not permute.

        `scores` gives the scores [out, in] of a layer by path.
        """
        group = self.groups.get(path)
        if group is None:
            return None
        first = group.layers[0]
        if first not in self.found:
            self.found[first] = self._search(group, scores)
        return InOrder(group.pattern, self.found[first])

    def take_notes(self) -> list[str]:
        """What was found since the last call is worth."""
        taken, self.notes = self.notes, []
        return taken

    def _search(self, group: Group, scores: Scores) -> Tensor:
        n, m = group.pattern.n, group.pattern.m
        rows = {}
        for path in group.layers:
            gemm = self.info.layer(path).gemm
            assert gemm is not None
            rows[path] = lanes(scores(path), gemm).cpu()
        order = search(torch.cat(list(rows.values())), n, m, self.seed, group.run)
        for path, own in rows.items():
            whole = float(own.sum(dtype=torch.float64)) or 1.0
            with_it, without = kept(own, n, m, order) / whole, kept(own, n, m) / whole
            self.notes.append(
                f"{path}: the order of its input channels keeps {with_it:.1%} of the score, "
                f"{without:.1%} without"
            )
        return order


def folded(model: Model, masks: Masks) -> tuple[Model, Masks, tuple[str, ...]]:
    """A model that computes the same, with its channels in the orders of `masks`; and its masks.

    Without orders these are `model` and `masks` themselves; the sentences say what was done. Raises
    Mismatch if the outputs differ on an example by more than rounding.
    """
    if not masks.orders:
        return model, masks, ()
    channels = trace(model)
    moves = [move for path, order in masks.orders.items() for move in _moves(channels, path, order)]
    module = copy.deepcopy(model.runnable())
    state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    for name, dim, index in moves:
        state[name] = state[name].index_select(dim, index)
    module.load_state_dict(state)
    other = replace(model, module=module, state=module.state_dict())
    layers = {}
    for path, mask in masks.layers.items():
        layer = model.info.layer(path)
        assert layer.gemm is not None
        layers[path] = layer.gemm.view(_moved(layer.gemm.store(mask), layer.weight, moves))
    vectors = {name: _moved(mask, name, moves) for name, mask in masks.vectors.items()}
    result = Masks(layers, vectors)
    _check(model, masks, other, result)
    count = len(masks.orders)
    note = (
        f"the channels between layers are in another order in {count} "
        f"place{'s' if count > 1 else ''}, the same on both sides, so that N:M lies on neighbours; "
        "the outputs are the same"
    )
    return other, result, (note,)


Move = tuple[str, int, Tensor]


def _moves(channels: Channels, path: str, permutation: Tensor) -> list[Move]:
    order = channels.order(path)
    if not isinstance(order, Order):
        raise BadInput(f"{path} can no longer take its order of input channels: {order}")
    indices = order.indices(permutation.numpy())
    return [(name, dim, torch.from_numpy(index)) for name, dim, index in indices]


def _moved(mask: Tensor, parameter: str, moves: list[Move]) -> Tensor:
    for name, dim, index in moves:
        if name == parameter:
            mask = mask.index_select(dim, index)
    return mask


def _check(model: Model, masks: Masks, other: Model, other_masks: Masks) -> None:
    assert model.inputs is not None
    args, kwargs = model.inputs(2)
    outputs = []
    for each, own in ((model, masks), (other, other_masks)):
        with masked(each, own), torch.no_grad():
            outputs.append(named_tensors(each.runnable()(*args, **kwargs)))
    difference = compare_outputs(*outputs)
    if not difference.equal:
        raise Mismatch(
            f"{model.address} with its channels in another order gives outputs that differ by up "
            f"to {difference.max_difference:.3g}"
        )
