"""Training under masks: weight, gradient and optimizer state of a pruned entry stay zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import BadInput
from .evaluate import logits
from .models.model import Model
from .plan import Training

_TEMPERATURE = 2.0


class Trainer:
    """One module in training, with masks that hold.

    `module` is trained in place on `device`. `teacher` is the dense module to learn from, or None.
    """

    def __init__(
        self, module: nn.Module, training: Training, device: torch.device, teacher: nn.Module | None
    ) -> None:
        self.module = module.to(device)
        self.device = device
        self._teacher = teacher.to(device) if teacher is not None else None
        self._parameters = dict(module.named_parameters())
        self._masks: dict[str, Tensor] = {}
        self.optimizer = _optimizer(module, training)
        self._rate = training.lr
        self._falls_from = {"late": 0.75, "cosine": 0.0, "constant": 1.0}[training.decay]
        for name, parameter in self._parameters.items():
            parameter.register_post_accumulate_grad_hook(self._gradient_mask(name))

    def _gradient_mask(self, name: str) -> Any:
        def hold(parameter: Tensor) -> None:
            mask = self._masks.get(name)
            if mask is not None and parameter.grad is not None:
                parameter.grad.mul_(mask)

        return hold

    def set_masks(self, masks: dict[str, Tensor]) -> None:
        """Hold these masks (stored shapes, by parameter name) from now on."""
        self._masks = {name: mask.to(self.device) for name, mask in masks.items()}
        with torch.no_grad():
            for name, mask in self._masks.items():
                parameter = self._parameters[name]
                parameter.mul_(mask)
                # Momentum of a pruned weight would move it again.
                for value in self.optimizer.state[parameter].values():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        value.mul_(mask)

    def step(self, inputs: Tensor, labels: Tensor, done: float) -> float:
        """One optimizer step; returns the loss. `done` is the share of the training behind it.

        Raises BadInput when the loss is not finite.
        """
        fallen = max(0.0, done - self._falls_from) / max(1e-9, 1 - self._falls_from)
        rate = self._rate * (0.5 + 0.5 * math.cos(math.pi * fallen))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, labels = inputs.to(self.device), labels.to(self.device)
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        output = logits(self.module(inputs))
        loss = F.cross_entropy(output, labels)
        if self._teacher is not None:
            with torch.no_grad():
                wanted = F.log_softmax(logits(self._teacher(inputs)) / _TEMPERATURE, dim=1)
            told = F.log_softmax(output / _TEMPERATURE, dim=1)
            divergence = F.kl_div(told, wanted, reduction="batchmean", log_target=True)
            loss = 0.5 * loss + 0.5 * _TEMPERATURE**2 * divergence
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BadInput("the loss became NaN or infinite; lower the learning rate (training.lr)")
        loss.backward()
        self.optimizer.step()
        return value


def _optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    parameters = list(module.parameters())
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters, training.lr, training.momentum, weight_decay=training.weight_decay
    )


def teacher_of(model: Model, training: Training) -> nn.Module | None:
    """The dense module in eval mode if the plan distils, else None."""
    return model.runnable() if training.distil else None
