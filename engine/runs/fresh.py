"""Drawing a module's weights anew, for training from scratch."""

from __future__ import annotations

import torch
from torch import nn


def draw_anew(module: nn.Module, seed: int) -> list[str]:
    """Initialise all weights again, by each submodule's own rule, the same for the same seed.

    Returns the names of parameters that no rule reaches; they stay as they are.
    """
    own = getattr(module, "_init_weights", None)  # transformers' models
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    # A rule may draw the very values that are there, as in a network made with the same seed.
    versions = {name: parameter._version for name, parameter in module.named_parameters()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None) or getattr(
                part, "_reset_parameters", None
            )
            if callable(reset):
                reset()
            if callable(own):
                own(part)
    parameters = dict(module.named_parameters())
    constant = {name for name, value in before.items() if bool((value == value.flatten()[0]).all())}
    return [
        name
        for name, value in before.items()
        if name not in constant
        and parameters[name]._version == versions[name]
        and torch.equal(value, parameters[name])
    ]
