"""Which channels hang together in a model, so that removing one removes all that belongs to it.

The model is run once, and every operation is followed. Only what is exact is said: an operation
that is not known lets the channels that it touches stay, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from ..info import LayerInfo, ModelInfo
from . import record
from .channels import Channels, own_biases, rows_of
from .order import Order
from .record import Unfollowed

SECONDS = 10.0


class Traceable(Protocol):
    """An opened model."""

    info: ModelInfo
    module: nn.Module | None
    inputs: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]] | None

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Its tensors by name."""


def trace(model: Traceable, seconds: float = SECONDS) -> Channels:
    """Follow the channels of a model. Never raises: what can't be followed is fixed, and why.

    Runs the model once on an example of one, for at most about `seconds`. Weights that are zero
    already count as zero.
    """
    layers = model.info.layers
    if model.module is None:
        problem = "the file holds weights only, so what follows a layer is not known"
    elif model.inputs is None:
        problem = "no example input is known, so the model could not be traced"
    else:
        try:
            args, kwargs = model.inputs(1)
        except Exception as error:  # an architecture's own example_inputs
            problem = f"its example input cannot be made ({first_line(error)})"
        else:
            return trace_module(model.module, args, kwargs, layers, seconds)
    return Channels(problem, rows=rows_of(layers), biases=own_biases(layers, model.state))


def trace_module(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    layers: Iterable[LayerInfo],
    seconds: float = SECONDS,
) -> Channels:
    """Like `trace`, for a module in eval mode, one example of its inputs and its layers' rows."""
    layers = list(layers)
    rows = rows_of(layers)
    biases = own_biases(layers, dict(module.named_parameters(remove_duplicate=False)))
    try:
        recording = record.record(module, args, kwargs, seconds)
        note = ""
        if recording.data_dependent:
            note = (
                "the model looks at its data, so only the way that its example takes was "
                f"followed ({recording.data_dependent})"
            )
        channels = Channels(None, note, rows, biases, recording)
        channels.classes  # noqa: B018 - computed now, so that a failure is a problem
        return channels
    except Unfollowed as stop:
        return Channels(str(stop), rows=rows, biases=biases)
    except Exception as error:  # whatever a stranger's forward raises
        problem = f"it could not be followed: {first_line(error)}"
        return Channels(problem, rows=rows, biases=biases)


def first_line(error: BaseException) -> str:
    """What an error says, shortened to its first line, after its type."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


__all__ = ["Channels", "Order", "first_line", "trace", "trace_module"]
