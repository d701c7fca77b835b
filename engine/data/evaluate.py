"""How good a model's answers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import BadInput
from . import Data, Inputs, forward, to_device


def logits(output: object) -> Tensor:
    """The class scores [n, classes] in what a classifier returned.

    That is a tensor, or an object whose ``logits`` is one, as transformers' models return.
    Raises TypeError for anything else.
    """
    scores = getattr(output, "logits", output)
    if not isinstance(scores, Tensor):
        raise TypeError(f"the model returns a {type(output).__name__}, not class scores")
    return scores


@torch.no_grad()
def accuracy(
    module: nn.Module,
    data: Data,
    device: str | torch.device = "cpu",
    batch: int = 256,
    split: str = "validation",
) -> float:
    """The share of a split whose highest class score is the label's, in [0, 1].

    The module, which lies on `device`, computes in evaluation mode; each of its submodules is in
    the mode it was in afterwards. NaN scores count as wrong.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    right = 0
    try:
        for inputs, labels in data.batches(split, batch):
            scores = logits(forward(module, to_device(inputs, device)))
            check_labels(labels, scores, data.name)
            hits = scores.argmax(1).cpu() == labels
            right += int((hits & ~scores.isnan().any(1).cpu()).sum())
    finally:
        for part, mode in modes:
            part.training = mode
    return right / len(data.split(split))


@torch.no_grad()
def check_fits(module: nn.Module, data: Data) -> None:
    """Raise BadInput if the module cannot take the data's inputs or has fewer scores than classes.

    It names the layer that fails and what that layer takes. The module is on the CPU and in
    evaluation mode.
    """
    inputs, _ = data.validation.take(torch.arange(min(2, len(data.validation))))
    with _computing(module) as inside:
        try:
            scores = logits(forward(module, inputs))
        except Exception as error:  # whatever a stranger's forward raises
            raise BadInput(
                f"the model cannot take the inputs of {data.name}, {_of_one(inputs)} each: "
                f"{_blamed(module, inside, error)}"
            ) from None
    if scores.dim() != 2 or scores.shape[1] < data.classes:
        raise BadInput(
            f"{data.name} has {data.classes} classes, the model gives {_shape(scores)} scores"
        )


def check_labels(labels: Tensor, scores: Tensor, name: str) -> None:
    """Raise BadInput if a label, int64 [n] on the CPU, has no score in `scores` [n, classes]."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.shape[1]:
        wrong = low if low < 0 else high
        raise BadInput(f"{name} has label {wrong}, but the model gives {scores.shape[1]} scores")


def check_inputs(inputs: Inputs, name: str) -> None:
    """Raise BadInput if an input is NaN or infinite."""
    for tensor in (inputs,) if isinstance(inputs, Tensor) else inputs.values():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadInput(f"{name} has inputs that are NaN or infinite; repair the data")


def _of_one(inputs: Inputs) -> str:
    """What one sample is, in words."""
    return _shape(inputs) if isinstance(inputs, Tensor) else " and ".join(inputs)


def _shape(batch: Tensor) -> str:
    """The shape of one sample."""
    return "×".join(map(str, batch.shape[1:]))


@dataclass(frozen=True)
class _Call:
    """A submodule that computes: its path, and the shape of what it was given, if that is one."""

    path: str
    given: Sequence[int] | None


@contextmanager
def _computing(module: nn.Module) -> Iterator[list[_Call]]:
    """The submodules that compute just now, the innermost last."""
    inside: list[_Call] = []

    def entered(_: nn.Module, given: tuple[object, ...], path: str) -> None:
        first = given[0] if given else None
        inside.append(_Call(path, first.shape if isinstance(first, Tensor) else None))

    def left(*_: object) -> None:
        inside.pop()

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(partial(entered, path=path)))
        handles.append(part.register_forward_hook(left))
    try:
        yield inside
    finally:
        for handle in handles:
            handle.remove()


def _blamed(module: nn.Module, inside: list[_Call], error: Exception) -> str:
    """The submodule that failed and why, in words; only the reason for the whole."""
    reason = str(error).strip().split("\n")[0][:200]
    if not inside or not inside[-1].path:
        return reason
    path, given = inside[-1].path, inside[-1].given
    part = module.get_submodule(path)
    features, channels = (getattr(part, name, None) for name in ("in_features", "in_channels"))
    if given and features is not None and given[-1] != features:
        return f"{path} takes {features} features and gets {given[-1]}"
    # Without a batch the channels stand first.
    if given and channels is not None and len(given) == part.weight.ndim and given[1] != channels:
        return f"{path} takes {channels} channels and gets {given[1]}"
    return f"{path} says: {reason}"
