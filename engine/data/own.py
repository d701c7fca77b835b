"""A person's own loader: ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ..errors import BadInput
from .base import Data, InMemory, Split
from .classes import held_out, labelled
from .inputs import Batch, Inputs
from .request import Request

_MOST_BYTES = 8 << 30
_LABELS = ("labels", "label")


@dataclass(frozen=True)
class Examples:
    """A Dataset whose examples are read when their turn comes; `loader` names it in messages."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    loader: str

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """See `Split.take`; what varies at random is up to the dataset."""
        numbers = chosen.tolist()
        try:
            batch = self.collate([self.dataset[i] for i in numbers])
        except Exception as error:  # the person's own code may raise anything
            words = f"{type(error).__name__}: {error}".split("\n")[0]
            raise BadInput(f"{self.loader} failed at example {numbers[0]}: {words}") from None
        return as_batch(batch, self.loader, f"example {numbers[0]}")


def load(request: Request, module: str, function: str) -> Data:
    """What the function returns, called without arguments, or for each split with its name.

    That may be a torch Dataset, a DataLoader, ``(inputs, labels)`` as tensors or arrays, an
    iterable of such batches, or a pair of these to train on and to validate with; of a single one
    a fifth is held out. Raises BadInput that names the loader where it gives anything else.
    """
    loader = f"the loader {request.name}"
    made = _call(loader, module, function)
    if isinstance(made, tuple) and len(made) == 2 and not _is_array(made[0]):
        parts = [_split(half, loader) for half in made]
    else:
        whole = _split(made, loader)
        labels = _labels(whole)
        spread = torch.zeros(len(whole), dtype=torch.int64) if labels is None else labels
        parts = [_part(whole, share) for share in held_out(spread, request.seed)]
    for part, words in zip(parts, ("train on", "validate with"), strict=True):
        if not len(part):
            raise BadInput(f"{loader} gave no examples to {words}")
        part.take(torch.arange(min(2, len(part))))  # say now what would fail later
    train, validation = parts
    if not isinstance(train, InMemory) or not isinstance(validation, InMemory):
        return Data(request.name, train, validation, 0)
    classes = int(torch.cat([train.labels, validation.labels]).max()) + 1
    return labelled(request, train, validation, classes)


def as_batch(batch: Any, loader: str, place: str) -> Batch:
    """Inputs and labels of what a loader gave; raises BadInput that says what it lacks."""
    if isinstance(batch, Mapping):
        key = next((name for name in _LABELS if name in batch), None)
        if key is None:
            raise BadInput(f"{loader} gave a dict without labels at {place}")
        inputs: Any = {str(k): _tensor(v) for k, v in batch.items() if k != key}
        labels = _tensor(batch[key])
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, labels = batch[0], _tensor(batch[1])
        if isinstance(inputs, Mapping):
            inputs = {str(name): _tensor(value) for name, value in inputs.items()}
        else:
            inputs = _tensor(inputs)
    else:
        raise BadInput(f"{loader} gave {_words(batch)} at {place}, not (inputs, labels)")
    tensors = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise BadInput(f"{loader} gave {_words(tensor)} as inputs at {place}, not a tensor")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dim() != 1:
        raise BadInput(
            f"{loader} gave {_words(labels)} as labels at {place}, not whole numbers, one for each "
            "example"
        )
    if not tensors or any(t.dim() == 0 or len(t) != len(labels) for t in tensors):
        counts = ", ".join(str(len(t) if t.dim() else 1) for t in tensors) or "no"
        raise BadInput(f"{loader} gave {counts} inputs for {len(labels)} labels at {place}")
    return inputs, labels.long()


def _call(loader: str, module: str, function: str) -> Any:
    try:
        make = getattr(importlib.import_module(module), function)
        if "split" in inspect.signature(make).parameters:
            return make(split="train"), make(split="validation")
        return make()
    except Exception as error:  # the person's own code may raise anything
        words = f"{type(error).__name__}: {error}".split("\n")[0]
        raise BadInput(f"{loader} cannot be called: {words}") from None


def _split(made: Any, loader: str) -> Split:
    batching = isinstance(made, DataLoader) and made.batch_sampler is not None
    if batching and not isinstance(made.dataset, IterableDataset):
        return Examples(made.dataset, made.collate_fn, loader)
    if isinstance(made, Dataset) and not isinstance(made, IterableDataset):
        return Examples(made, default_collate, loader)
    if isinstance(made, tuple | list) and len(made) == 2 and _is_array(made[0]):
        return InMemory(*as_batch(made, loader, "once"))
    if not isinstance(made, Iterable) or isinstance(made, str | bytes | Mapping):
        raise BadInput(
            f"{loader} gave {_words(made)}; it should give a torch Dataset, a DataLoader, tensors "
            "(inputs, labels), an iterable of such batches, or a pair of these"
        )
    return _collected(made, loader)


def _collected(batches: Iterable[Any], loader: str) -> InMemory:
    """All batches, in memory."""
    found: list[Batch] = []
    held = 0
    for number, batch in enumerate(_guarded(batches, loader)):
        inputs, labels = as_batch(batch, loader, f"batch {number}")
        held += sum(t.nbytes for t in _tensors(inputs))
        if held > _MOST_BYTES:
            raise BadInput(
                f"{loader} gave more than {_MOST_BYTES >> 30} GiB in batches; "
                "give a torch Dataset, which is read piece by piece"
            )
        found.append((inputs, labels))
    if not found:
        raise BadInput(f"{loader} gave no batches")
    try:
        inputs = _joined([inputs for inputs, _ in found])
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        words = str(error).split("\n")[0]
        raise BadInput(f"{loader} gave batches that differ in shape: {words}") from None
    return InMemory(inputs, torch.cat([labels for _, labels in found]))


def _guarded(batches: Iterable[Any], loader: str) -> Iterator[Any]:
    number = 0
    try:
        for batch in batches:
            yield batch
            number += 1
    except BadInput:
        raise
    except Exception as error:  # the person's own code may raise anything
        words = f"{type(error).__name__}: {error}".split("\n")[0]
        raise BadInput(f"{loader} failed at batch {number}: {words}") from None


def _joined(parts: list[Inputs]) -> Inputs:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)  # type: ignore[arg-type]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # type: ignore


def _tensors(inputs: Inputs) -> list[Tensor]:
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.values())


def _labels(split: Split) -> Tensor | None:
    """All labels, where they can be had without reading the examples."""
    if isinstance(split, InMemory):
        return split.labels
    targets = getattr(getattr(split, "dataset", None), "targets", None)
    try:
        found = None if targets is None else torch.as_tensor(targets)
    except (ValueError, TypeError, RuntimeError):
        return None
    fits = found is not None and found.shape == (len(split),) and not found.is_floating_point()
    return found.long() if found is not None and fits else None


def _part(whole: Split, chosen: Tensor) -> Split:
    if isinstance(whole, InMemory):
        return InMemory(*whole.take(chosen))
    assert isinstance(whole, Examples)
    subset = torch.utils.data.Subset(whole.dataset, chosen.tolist())
    return Examples(subset, whole.collate, whole.loader)


def _is_array(value: Any) -> bool:
    """Whether it is the first of ``(inputs, labels)``: a tensor, an array or tensors by name."""
    if isinstance(value, Mapping):
        return all(isinstance(v, Tensor | np.ndarray) for v in value.values())
    return isinstance(value, Tensor | np.ndarray)


def _tensor(value: Any) -> Any:
    """An array, or a list of numbers, as a tensor; anything else as it is."""
    if isinstance(value, np.ndarray | list):
        try:
            return torch.as_tensor(value)
        except (ValueError, TypeError, RuntimeError):
            return value
    return value


def _words(value: Any) -> str:
    """What something is, for a message: ``a list``, ``float32 [4, 2]``."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}"
