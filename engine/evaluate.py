"""How good a model's answers are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .data import Data
from .errors import BadInput


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
            scores = logits(module(inputs.to(device)))
            hits = scores.argmax(1).cpu() == labels
            right += int((hits & ~scores.isnan().any(1).cpu()).sum())
    finally:
        for part, mode in modes:
            part.training = mode
    return right / len(data.split(split)[1])


@torch.no_grad()
def check_fits(module: nn.Module, data: Data) -> None:
    """Raise BadInput if the module cannot take the data's inputs or has fewer scores than classes.

    The module is on the CPU and in evaluation mode.
    """
    inputs, _ = data.validation
    try:
        scores = logits(module(inputs[:2]))
    except Exception as error:  # whatever a stranger's forward raises
        reason = str(error).strip().split("\n")[0][:200]
        raise BadInput(f"the model cannot take the inputs of {data.name}: {reason}") from None
    if scores.dim() != 2 or scores.shape[1] < data.classes:
        shape = "×".join(map(str, scores.shape[1:]))
        raise BadInput(f"{data.name} has {data.classes} classes, the model gives {shape} scores")
