"""ONNX: what other runtimes execute. Dense with zeros; smaller where whole outputs are gone."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..masks import masked
from ..outputs import compare_outputs, named_tensors
from .base import Difference, Draft, Exporter, Source, TensorRow
from .dense_file import tied_notes
from .onnx_run import OnnxModel

if TYPE_CHECKING:
    from ..models.model import Model

_LIMIT = (1 << 31) - (1 << 20)
_KEPT_METADATA = {"namespace", "pkg.torch.onnx.name_scopes"}
_EXAMPLE = 2  # a batch of one would be taken for a constant


class Onnx(Exporter):
    """One file with the weights inside, their names kept, and any batch size where torch can."""

    def write(self, source: Source, path: Path) -> Draft:
        module, notes = _smaller(source)
        _check_size(module, path)
        tracer = Tracer(source.model, module)
        proto = tracer.free_batch()
        if proto is not None:
            path.write_bytes(proto.SerializeToString())
        # Tracing may have settled a branch that depends on the batch; then one size is all it does.
        if proto is None or not self.compare(source, path).equal:
            proto = tracer.fixed_batch()
            path.write_bytes(proto.SerializeToString())
            notes = (*notes, "the batch size could not be left open; it is fixed at 1")
        return Draft(_rows(proto, source), (*tied_notes(source.tied), *notes))

    def compare(self, source: Source, path: Path) -> Difference:
        """Outputs against the masked model in torch, on one batch of examples or, if free, two."""
        model = source.model
        try:
            session = OnnxModel(path, f"the ONNX of {model.address}")
        except BadInput as error:  # such as bfloat16, which ONNX Runtime lacks on a CPU
            raise BadInput(f"{error}; export to compressed or safetensors instead") from None
        assert model.inputs is not None
        worst, text, equal = 0.0, "", True
        for batch in (session.batch,) if session.batch else (1, 3):
            args, kwargs = model.inputs(batch)
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


class Tracer:
    """Turns a module into ONNX. The module is changed, so that it returns tensors and no cache."""

    def __init__(self, model: Model, module: nn.Module) -> None:
        """`module` is a copy of the model's own, or a smaller one that computes the same.

        Raises BadInput if it does not run on the model's example.
        """
        assert model.inputs is not None
        self._address = model.address
        self._inputs = model.inputs
        module.eval()
        if hasattr(module, "config") and hasattr(module.config, "use_cache"):
            module.config.use_cache = False
        self._names = self._run(module)
        original = module.forward

        # The copy's own forward is wrapped, and not the copy in a module, which would rename
        # its weights.
        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            return tuple(named_tensors(original(*args, **kwargs)).values())

        module.forward = forward
        self._module = module

    def free_batch(self) -> Any:
        """The ONNX model for any batch size, None where torch cannot trace it so."""
        args, kwargs = self._inputs(_EXAMPLE)
        shapes = _free_batch(self._module.forward, args, kwargs)
        if shapes is None:
            return None
        try:
            return _export(self._module, args, kwargs, shapes, self._names)
        except Exception:  # torch.export runs the model's own code; `fixed_batch` says what it was
            return None

    def fixed_batch(self) -> Any:
        """The ONNX model for a batch of one. Raises BadInput where torch cannot trace it."""
        args, kwargs = self._inputs(1)
        try:
            return _export(self._module, args, kwargs, None, self._names)
        except Exception as error:  # see above
            raise BadInput(
                f"torch cannot trace {self._address} for ONNX ({_reason(error)}); export to "
                "compressed or safetensors instead"
            ) from None

    def _run(self, module: nn.Module) -> list[str]:
        """The names of the outputs."""
        args, kwargs = self._inputs(1)
        try:
            with torch.no_grad():
                return list(named_tensors(module(*args, **kwargs)))
        except Exception as error:  # the model's own code raises anything
            reason = str(error).split("\n")[0][:200]
            raise BadInput(f"{self._address} does not run on its example: {reason}") from None


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, names: list[str]
) -> Any:
    """The ONNX model that torch's exporter makes."""
    # The exporter reports its progress with print, and tracing warns of deprecated calls inside
    # torch, onnxscript and transformers, which say nothing of the model.
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(silent), torch.no_grad():
            program = torch.onnx.export(
                module,
                args,
                kwargs=kwargs,
                dynamo=True,
                optimize=False,  # folding would rename the weights; runtimes fold when they load
                verbose=False,
                external_data=False,
                dynamic_shapes=shapes,
                output_names=names,
            )
    assert program is not None
    proto = program.model_proto  # made anew each time it is asked for
    _strip(proto)
    return proto


def _free_batch(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The first dimension of every input as one free size; None where an input is no tensor."""
    values = [*args, *kwargs.values()]
    if not all(isinstance(v, Tensor) and v.dim() and len(v) == _EXAMPLE for v in values):
        return None
    if not kwargs:
        return tuple({0: "batch"} for _ in args)
    names = list(inspect.signature(forward).bind(*args, **kwargs).arguments)
    return {name: {0: "batch"} for name in names} if len(names) == len(values) else None


def _reason(error: Exception) -> str:
    """The line of the exporter's long message that names the cause."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).split("\n") if line.strip()]
    return lines[0][:200] if lines else type(cause).__name__


def _strip(proto: Any) -> None:
    """Drop what the exporter notes for its own debugging: stack traces with this machine's paths.

    Each node keeps the path of the module that it comes from.
    """
    for node in proto.graph.node:
        kept = [p for p in node.metadata_props if p.key in _KEPT_METADATA]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:]


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
