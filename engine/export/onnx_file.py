"""ONNX: what other runtimes execute. Dense with zeros; smaller where whole outputs are gone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..masks import masked
from ..outputs import compare_outputs, named_tensors
from .base import Difference, Draft, Exporter, Source, TensorRow
from .dense_file import tied_notes
from .onnx_run import OnnxModel
from .onnx_trace import MASK, Tracer, shorter

_LIMIT = (1 << 31) - (1 << 20)


class Onnx(Exporter):
    """One file with the weights inside, their names kept, for any batch size and length of text.

    Where torch cannot leave a size open the notes say so. A language model's file also takes an
    attention mask, so that texts of different lengths can be padded.
    """

    def write(self, source: Source, path: Path) -> Draft:
        module, notes = _smaller(source)
        _check_size(module, path)
        for proto, lacks in Tracer(source.model, module).attempts():
            path.write_bytes(proto.SerializeToString())
            draft = Draft(_rows(proto, source), (*tied_notes(source.tied), *notes, *lacks))
            # Tracing may have settled a branch that depends on the batch or on a text's length.
            if self.compare(source, path).equal:
                break
        return draft

    def compare(self, source: Source, path: Path) -> Difference:
        """Outputs against the masked model in torch on examples of every size that is free."""
        model = source.model
        try:
            session = OnnxModel(path, f"the ONNX of {model.address}")
        except BadInput as error:  # such as bfloat16, which ONNX Runtime lacks on a CPU
            raise BadInput(f"{error}; export to compressed or safetensors instead") from None
        assert model.inputs is not None
        worst, text, equal = 0.0, "", True
        examples = [model.inputs(batch) for batch in _sizes(session)]
        if session.free_lengths:
            args, kwargs = examples[-1]
            examples.append((args, shorter(kwargs, padded=session.takes(MASK))))
        for args, kwargs in examples:
            with masked(model, source.masks), torch.no_grad():
                expected = named_tensors(model.runnable()(*args, **kwargs))
            try:
                found = compare_outputs(expected, session.run(args, kwargs))
            except (BadInput, ValueError) as error:
                return Difference(float("inf"), False, str(error))
            equal = equal and found.equal
            if found.max_difference >= worst:
                worst = found.max_difference
                text = f"its outputs differ by up to {worst:.3g}, {found.relative:.3g} relative"
        return Difference(worst, equal, text)


def _sizes(session: OnnxModel) -> tuple[int, ...]:
    """The batch sizes to compare at."""
    return (session.batch,) if session.batch else (1, 3)


def _smaller(source: Source) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of the module with masks committed, whole outputs taken out where that is possible."""
    from ..compaction import compact

    model = source.model
    model.runnable()
    if model.inputs is None:
        raise BadInput(
            f"no example input is known for {model.address}, and ONNX needs one; give the "
            "architecture's module an attribute example_inputs, or export to safetensors"
        )
    if not any(_frees_channels(mask) for mask in source.masks.layers.values()):
        return _committed(source), ()
    result = compact(model, source.masks)
    return result.module, tuple(result.notes)


def _frees_channels(mask: Tensor) -> bool:
    """Whether a bool [out, in] mask has an empty row or column, which may make the model smaller.

    An empty column is an input that is not read: of an attention head, or of a layer before it.
    """
    return not bool(mask.any(dim=1).all()) or not bool(mask.any(dim=0).all())


def _committed(source: Source) -> nn.Module:
    module = copy.deepcopy(source.model.runnable())
    with torch.no_grad():
        own = module.state_dict(keep_vars=True)
        for name, tensor in source.state.items():
            own[name].copy_(tensor)
    return module


def _check_size(module: nn.Module, path: Path) -> None:
    tensors = {t.data_ptr(): t for t in module.state_dict().values()}
    size = sum(t.nbytes for t in tensors.values())
    if size > _LIMIT:
        raise BadInput(
            f"{path}: one ONNX file holds at most 2 GB and the weights take {size / 1e9:.1f} GB; "
            "export to compressed or safetensors"
        )


def _rows(proto: Any, source: Source) -> tuple[TensorRow, ...]:
    """The weights in the file. What was computed from the model's own has no dense counterpart."""
    import onnx

    rows = []
    for tensor in proto.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        own = source.state.get(tensor.name)
        dense = own.nbytes if own is not None else size
        rows.append(TensorRow(tensor.name, shape, dtype.name, "dense", size, dense))
    return tuple(rows)
