"""Verifying: does an exported file answer as the model does?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput
from .files import check_readable
from .levels import index_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .masks import Masks
    from .models.model import Model

_RANDOM_INPUTS = 16
_BATCH = 64

Outputs = dict[str, "Tensor"]
Batch = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Verification:
    """How a file's outputs differ from the model's, both run on the same `inputs` examples.

    `max_difference` is the largest absolute difference, `relative` the norm of all differences over
    the norm of the outputs. `agreement` is the share of equal answers (the class of the highest
    score; for a language model of every token), None where outputs are no scores. `equal` says
    that `max_difference` is within `tolerance` (1e-4, and 1e-5 of the largest output where that is
    more) and `relative` within `relative_tolerance` (1e-3; half precision is not asked for it).
    With 0 inputs, for a bare state dict, the weights were compared instead, exactly.
    """

    max_difference: float
    relative: float
    agreement: float | None
    equal: bool
    tolerance: float
    relative_tolerance: float
    inputs: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, as the command line prints them."""
        return asdict(self)


def verify(
    exported: str | Path,
    against: Model,
    masks: Masks | None = None,
    level: float | None = None,
) -> Verification:
    """Run the exported file and `against` with `masks` applied, and compare.

    `exported` is an ONNX or safetensors file; of one with nested levels `level` says which is run,
    None the loosest. The examples are the model's own
    validation data where it has any, else 16 random inputs, the same every time. Raises BadInput
    for a file that is missing, truncated, damaged, or an export of another model.
    """
    from .masks import Masks

    path, masks = Path(exported), masks or Masks()
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name the exported file")
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    check_readable(path)
    if not _is_safetensors(path):
        index_of((), level, path)
        return _verify_onnx(path, against, masks)
    if against.module is None:
        return _verify_weights(path, against, masks, level)
    module = _module(path, against, level)
    return _compare(path, against, masks, lambda args, kwargs: _outputs(module, args, kwargs), None)


def _is_safetensors(path: Path) -> bool:
    if path.suffix in (".safetensors", ".onnx"):
        return path.suffix == ".safetensors"
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _verify_onnx(path: Path, against: Model, masks: Masks) -> Verification:
    from .export.onnx_run import OnnxModel

    against.runnable()
    session = OnnxModel(path)
    return _compare(path, against, masks, session.run, session.batch)


def _verify_weights(path: Path, against: Model, masks: Masks, level: float | None) -> Verification:
    from .export.tensors import compare_states
    from .models.archive import read_state

    found = compare_states(masks.committed(against), read_state(path, level))
    if found.max_difference == float("inf"):
        raise BadInput(f"{path} is no export of {against.address}: {found.text}")
    relative = 0.0 if found.equal else 1.0
    return Verification(found.max_difference, relative, None, found.equal, 0.0, 0.0, 0)


def _module(path: Path, against: Model, level: float | None) -> nn.Module:
    """The file's module; built as `against` is where the file does not know its architecture."""
    from .models.archive import About, read_state
    from .models.exported import architecture_of, filled
    from .models.fill import fill

    about = About.read(path)
    found = architecture_of(path, about, None)
    if found is not None:
        return filled(path, found, about, None, level).module
    module = copy.deepcopy(against.runnable())
    fill(module, read_state(path, level), f"{path} is no export of {against.address}")
    return module.eval()


def _compare(
    path: Path,
    against: Model,
    masks: Masks,
    run: Callable[[tuple[Any, ...], dict[str, Any]], Outputs],
    batch: int | None,
) -> Verification:
    """Run both on the same batches; `batch` is a size that the file insists on."""
    from .masks import masked
    from .outputs import RELATIVE, compare_outputs

    expected: Outputs = {}
    found: Outputs = {}
    same = answers = count = 0
    with masked(against, masks):
        for index, (args, kwargs) in enumerate(_batches(against, batch)):
            right = _outputs(against.runnable(), args, kwargs)
            try:
                seen = run(args, kwargs)
            except BadInput:
                raise
            except Exception as error:  # whatever the forward of another model raises
                reason = str(error).split("\n")[0][:200]
                raise BadInput(f"{path} does not run as {against.address}: {reason}") from None
            expected |= {f"{name} of batch {index}": tensor for name, tensor in right.items()}
            found |= {f"{name} of batch {index}": tensor for name, tensor in seen.items()}
            equal, total = _answers(right, seen)
            same, answers = same + equal, answers + total
            count += _length(args, kwargs)
    try:
        difference = compare_outputs(expected, found)
    except ValueError as error:
        raise BadInput(f"{path} is no export of {against.address}: {error}") from None
    return Verification(
        max_difference=difference.max_difference,
        relative=difference.relative,
        agreement=same / answers if answers else None,
        equal=difference.equal,
        tolerance=difference.tolerance,
        relative_tolerance=RELATIVE,
        inputs=count,
    )


def _batches(model: Model, size: int | None) -> Iterator[Batch]:
    """The model's validation data, or random examples, in batches of `size` if one is given."""
    from .data import arguments, load_data

    if model.info.data is not None:
        data = load_data(model.info.data, model)
        for inputs, labels in data.batches("validation", size or _BATCH):
            if size is None or len(labels) == size:
                yield arguments(inputs)
        return
    if model.inputs is None:
        raise BadInput(f"no example input is known for {model.address}, so it cannot be run")
    if size is None:
        yield model.inputs(_RANDOM_INPUTS)
        return
    args, kwargs = model.inputs(_RANDOM_INPUTS // size * size or size)
    for start in range(0, _length(args, kwargs), size):
        part = slice(start, start + size)
        yield tuple(a[part] for a in args), {name: a[part] for name, a in kwargs.items()}


def _outputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outputs:
    import torch

    from .outputs import named_tensors

    with torch.no_grad():
        return named_tensors(module(*args, **kwargs))


def _answers(right: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> tuple[int, int]:
    """(equal, all) answers of the first output, where it holds scores along its last dimension."""
    name = next((n for n, t in right.items() if t.is_floating_point() and t.dim() >= 2), None)
    if name is None or name not in seen or seen[name].shape != right[name].shape:
        return 0, 0
    agree = right[name].argmax(-1) == seen[name].argmax(-1)
    return int(agree.sum()), agree.numel()


def _length(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return len(next(iter([*args, *kwargs.values()])))
