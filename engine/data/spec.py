"""What a loader has to know of the model that its data is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


class Opened(Protocol):
    """The part of an opened model that a loader asks about."""

    @property
    def address(self) -> str:
        """Where the model was opened from."""
        ...

    @property
    def inputs(self) -> Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]] | None:
        """Makes ``(args, kwargs)`` of examples."""
        ...

    @property
    def config(self) -> dict[str, Any] | None:
        """The Hugging Face configuration."""
        ...


@dataclass(frozen=True)
class InputSpec:
    """What a model's inputs have to be.

    `shape` is that of one example's main input, None where it is not known. `source` is a folder or
    a hub name for transformers, `weights` torchvision's ``NAME?weights=W``, `config` a Hugging Face
    configuration.
    """

    shape: tuple[int, ...] | None = None
    reads_text: bool = False
    source: str | None = None
    weights: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Opened | None) -> InputSpec:
        """What is known of `model`; nothing without one."""
        if model is None:
            return cls()
        args, kwargs = model.inputs(1) if model.inputs is not None else ((), {})
        main = args[0] if args else kwargs.get("pixel_values", next(iter(kwargs.values()), None))
        scheme, _, rest = model.address.partition(":")
        source = (rest if scheme == "hf" else model.address) if model.config is not None else None
        return cls(
            shape=tuple(main.shape[1:]) if isinstance(main, Tensor) else None,
            reads_text="input_ids" in kwargs,
            source=source,
            weights=rest if scheme == "torchvision" and "weights=" in rest else None,
            config=model.config or {},
        )

    @property
    def takes_a_row(self) -> bool:
        """Whether an example is one row of features, into which an image fits pixel by pixel."""
        return self.shape is not None and len(self.shape) == 1 and not self.reads_text

    @property
    def labels(self) -> dict[str, int]:
        """Class numbers by lower-case name, where the configuration names them."""
        found: Mapping[str, int] = self.config.get("label2id") or {}
        return {str(name).lower(): int(number) for name, number in found.items()}
