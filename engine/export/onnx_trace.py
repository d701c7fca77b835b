"""Tracing a module into ONNX, with as many sizes left open as torch can."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..outputs import named_tensors

if TYPE_CHECKING:
    from ..models.model import Model

MASK = "attention_mask"
_DECODER = "decoder_input_ids"
TEXTS = {"input_ids": "sequence", MASK: "sequence", _DECODER: "decoder_sequence"}
"""Inputs [batch, tokens] by the name that their length has in the file."""

_EXAMPLE = 2  # a batch of one would be taken for a constant


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

    def attempts(self) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """ONNX models, the freest that torch can trace first, each with notes on what it lacks.

        The last one is for a batch of one. Raises BadInput where torch cannot trace even that.
        """
        _, kwargs = self._inputs(_EXAMPLE)
        texts = [name for name in kwargs if name in TEXTS]
        takes = hasattr(self._module, "config") and "input_ids" in texts and MASK not in texts
        takes = takes and MASK in inspect.signature(self._module.forward).parameters
        lengths, mask = bool(texts), bool(takes)
        options = [(lengths, mask), (False, mask), (False, False)]
        for option in dict.fromkeys(options):
            proto = self._free(*option)
            if proto is not None:
                yield proto, _lacks(kwargs, *option)
        fixed = "the batch size could not be left open; it is fixed at 1"
        yield self._fixed(), (fixed, *_lacks(kwargs, False, False))

    def _free(self, lengths: bool, mask: bool) -> Any:
        """The ONNX model for any batch size, None where torch cannot trace it so."""
        args, kwargs = self._inputs(_EXAMPLE)
        if lengths:
            kwargs = _uneven(kwargs)
        if mask:
            kwargs = _with_mask(kwargs)
        # The exporter pairs names of sizes with inputs by their order, which is that of `forward`.
        order = list(inspect.signature(self._module.forward).parameters)
        known = {name: kwargs[name] for name in order if name in kwargs}
        kwargs = {**known, **kwargs}
        shapes = _free_sizes(self._module.forward, args, kwargs, lengths)
        if shapes is None:
            return None
        try:
            return _export(self._module, args, kwargs, shapes, self._names)
        except Exception:  # torch.export runs the model's own code; `_fixed` says what it was
            return None

    def _fixed(self) -> Any:
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


def shorter(kwargs: Mapping[str, Any], padded: bool) -> dict[str, Any]:
    """An example with texts of half the length, and with a mask that hides a token if `padded`."""
    half = {n: v[:, v.shape[1] // 2 :] if n in TEXTS else v for n, v in kwargs.items()}
    short = _uneven(half)
    return _with_mask(short) if padded and MASK not in short else short


def _uneven(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The example with a decoder's text one token shorter.

    Sizes that are equal in the example are taken for the same one.
    """
    uneven = dict(kwargs)
    if _DECODER in uneven and uneven[_DECODER].shape[1] > 1:
        uneven[_DECODER] = uneven[_DECODER][:, 1:]
    return uneven


def _with_mask(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The example with an attention mask, in which one text ends a token early."""
    mask = torch.ones_like(kwargs["input_ids"])
    mask[0, -1] = 0
    return {**kwargs, MASK: mask}


def _lacks(kwargs: Mapping[str, Any], lengths: bool, mask: bool) -> tuple[str, ...]:
    """What a file for these inputs can't do with texts."""
    notes = []
    sizes = [f"{value.shape[1]} ({n})" for n, value in kwargs.items() if n in TEXTS]
    if sizes and not lengths:
        notes.append(
            f"the length of texts could not be left open; it is fixed at {', '.join(sizes)}"
        )
    if "input_ids" in kwargs and not mask and MASK not in kwargs:
        notes.append(f"the file takes no {MASK}, so padding would be read as text")
    return tuple(notes)


def _free_sizes(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any], lengths: bool) -> Any:
    """Which dimensions of the inputs are free: the batch, and with `lengths` those of texts.

    None where an input is no tensor.
    """
    values = [*args, *kwargs.values()]
    if not all(isinstance(v, Tensor) and v.dim() and len(v) == _EXAMPLE for v in values):
        return None
    if not kwargs:
        return tuple({0: "batch"} for _ in args)
    names = list(inspect.signature(forward).bind(*args, **kwargs).arguments)
    if len(names) != len(values):
        return None
    return {
        name: {0: "batch", 1: TEXTS[name]} if lengths and name in TEXTS else {0: "batch"}
        for name in names
    }


def _reason(error: Exception) -> str:
    """The line of the exporter's long message that names the cause."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).split("\n") if line.strip()]
    return lines[0][:200] if lines else type(cause).__name__


def _strip(proto: Any) -> None:
    """Drop what the exporter notes for its own debugging: scopes, and paths of this machine."""
    graph = proto.graph
    named = (graph.node, graph.value_info, graph.input, graph.output, graph.initializer)
    for each in (graph, *(one for many in named for one in many)):
        del each.metadata_props[:]
