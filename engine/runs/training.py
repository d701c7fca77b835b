"""Training under masks: weight, gradient and optimizer state of a pruned entry stay zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Inputs, arguments, forward, to_device
from ..data.evaluate import check_inputs, check_labels, logits
from ..errors import BadInput
from ..models.model import Model
from ..plan import Training
from ..schedules.driver import Driver
from .rates import factor

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
        self._training = training
        self._teacher = teacher.to(device) if teacher is not None else None
        self._parameters = dict(module.named_parameters())
        self._masks: dict[str, Tensor] = {}
        self._wanted: dict[str, Tensor] | None = None
        self.optimizer = _optimizer(module, training)
        self._learned: torch.optim.Optimizer | None = None
        self._driver: Driver | None = None
        for name, parameter in self._parameters.items():
            parameter.register_post_accumulate_grad_hook(self._gradient_mask(name))

    def _gradient_mask(self, name: str) -> Any:
        def hold(parameter: Tensor) -> None:
            if parameter.grad is None:
                return
            mask = self._masks.get(name)
            if self._wanted is not None and mask is not None:
                self._wanted[name] = parameter.grad.clone()
            if mask is not None:
                parameter.grad.mul_(mask)

        return hold

    def follow(self, driver: Driver) -> None:
        """Train what `driver` learns beside the weights, and compute with its weights."""
        self._driver = driver
        learned = driver.learned()
        self._learned = torch.optim.Adam(learned, driver.rate) if learned else None

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def carry(self, parameter: Tensor, count: int, bring: Callable[[Tensor], Tensor]) -> None:
        """Bring the optimizer's state of a 1-d parameter of `count` entries to its new ones."""
        state = self.optimizer.state[parameter]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == (count,):
                state[name] = bring(value)

    def recover(self) -> None:
        """Start the optimizer of the weights anew, without momentum."""
        self.optimizer = _optimizer(self.module, self._training)

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
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

    def step(self, inputs: Inputs, labels: Tensor, step: int, total: int) -> float:
        """Optimizer step number `step` of `total`; returns the loss.

        Raises BadInput when the loss is not finite; the weights are then as before the step.
        """
        driver = self._driver
        done = step / total if driver is None else driver.progress(step, total)
        self._set_rates(factor(self._training.decay, done))
        given = labels
        inputs, labels = to_device(inputs, self.device), labels.to(self.device)
        frozen = driver is not None and driver.schedule.frozen
        # Batch norm's running statistics are part of what a frozen model keeps.
        self.module.train(not frozen)
        self._zero_gradients()
        watched = driver is not None and driver.wants_gradients(step)
        self._wanted = {} if watched else None
        weights = self._weights(training=True)
        with self._precision():
            output = logits(self._call(inputs, weights))
        check_labels(given, output, "the training data")
        loss = self._loss(output.float(), inputs, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            check_inputs(inputs, "the training data")
            raise BadInput("the loss became NaN or infinite; lower the learning rate (training.lr)")
        loss.backward()
        if watched and driver is not None:
            driver.observe(step, self._gradients(driver, weights))
        if self._training.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._training.clip)
        if not frozen:
            self.optimizer.step()
        if self._learned is not None:
            self._learned.step()
        return value

    def _set_rates(self, share: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._training.lr * share
        if self._learned is not None and self._driver is not None:
            for group in self._learned.param_groups:
                group["lr"] = self._driver.rate * share

    def _zero_gradients(self) -> None:
        self.module.zero_grad(set_to_none=True)
        if self._learned is not None:
            self._learned.zero_grad(set_to_none=True)

    def _loss(self, output: Tensor, inputs: Any, labels: Tensor) -> Tensor:
        loss = _criterion(self._training.loss, output, labels)
        if self._teacher is not None:
            with torch.no_grad(), self._precision():
                told = logits(forward(self._teacher, inputs)).float()
            wanted = F.log_softmax(told / _TEMPERATURE, dim=1)
            given = F.log_softmax(output / _TEMPERATURE, dim=1)
            divergence = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
            loss = 0.5 * loss + 0.5 * _TEMPERATURE**2 * divergence
        extra = self._driver.penalty() if self._driver is not None else None
        return loss if extra is None else loss + extra

    def _precision(self) -> Any:
        mixed = self._training.precision == "mixed"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    def _weights(self, *, training: bool) -> dict[str, Tensor]:
        """Weights to compute with in their stored shapes, by parameter name."""
        if self._driver is None:
            return {}
        found = {}
        for path, matrix in self._driver.weights(training=training).items():
            layer = self._driver.course.layers[path]
            stored = layer.gemm.store(matrix)
            if training and stored.requires_grad:
                stored.retain_grad()
            found[layer.weight] = stored
        return found

    def _call(self, inputs: Inputs, weights: dict[str, Tensor]) -> Any:
        if not weights:
            return forward(self.module, inputs)
        args, kwargs = arguments(inputs)
        return torch.func.functional_call(self.module, weights, args, kwargs, tie_weights=True)

    def _gradients(self, driver: Driver, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients [out, in] by layer path, of all entries, pruned ones too."""
        found = {}
        for path, layer in driver.course.layers.items():
            used = weights.get(layer.weight)
            grad = used.grad if used is not None else (self._wanted or {}).get(layer.weight)
            if grad is None:
                grad = self._parameters[layer.weight].grad
            if grad is not None:
                found[path] = layer.gemm.view(grad)
        return found

    @contextmanager
    def finished(self) -> Iterator[nn.Module]:
        """The module as it would compute if the training ended now."""
        with torch.no_grad():
            weights = self._weights(training=False)
        saved = {name: self._parameters[name].data for name in weights}
        try:
            for name, weight in weights.items():
                self._parameters[name].data = weight
            yield self.module
        finally:
            for name, data in saved.items():
                self._parameters[name].data = data

    def state(self) -> dict[str, Any]:
        """The optimizers' state, for a checkpoint."""
        learned = self._learned.state_dict() if self._learned is not None else None
        return {"weights": self.optimizer.state_dict(), "learned": learned}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave, after `follow`; raises ValueError where it does not fit."""
        _load(self.optimizer, state["weights"])
        if self._learned is not None and state["learned"] is not None:
            _load(self._learned, state["learned"])


def _load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    optimizer.load_state_dict(state)
    # Torch does not look at shapes. Scalars count steps.
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                shapes = f"{list(value.shape)}, not {list(parameter.shape)}"
                raise ValueError(f"the optimizer's {name} of a weight is {shapes}")


def _criterion(name: str, output: Tensor, labels: Tensor) -> Tensor:
    """The loss of scores [n, classes] against labels [n]."""
    if name == "cross_entropy":
        return F.cross_entropy(output, labels)
    # S3, section 4.2: sigmoid outputs and the mean squared error.
    return F.mse_loss(output.sigmoid(), F.one_hot(labels, output.shape[1]).to(output.dtype))


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
