"""Hugging Face models: a folder with a config.json, or ``hf:ORG/NAME``. No remote code is run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BadInput
from ..files import check_readable
from .build import from_module
from .model import Model
from .transformers_inputs import example


def open_folder(path: Path) -> Model:
    """Open a folder that ``save_pretrained`` wrote."""
    for name in ("config.json", "*.safetensors", "*.bin"):
        for file in path.glob(name):
            check_readable(file)
    return _open(str(path), str(path), path.name, local=True)


def open_hub(name: str) -> Model:
    """Open ORG/NAME from the hub or its local cache."""
    return _open(name, f"hf:{name}", name, local=False)


def build(config: dict[str, Any]) -> nn.Module:
    """The architecture of a configuration with fresh weights, the same every time."""
    import transformers

    values = dict(config)
    parsed = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _class_of(parsed)._from_config(parsed)


def _class_of(config: Any) -> Any:
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is not None:
            return found
    return transformers.MODEL_MAPPING[type(config)]


def _open(source: str, address: str, name: str, *, local: bool) -> Model:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each retry
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(
            source, local_files_only=local, trust_remote_code=False
        )
        _refuse_unreadable(config, address)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module, loading = _class_of(config).from_pretrained(
                source, config=config, local_files_only=local, output_loading_info=True
            )
    except BadInput:
        raise
    except Exception as error:  # transformers raises many kinds for a folder that it cannot read
        raise BadInput(f"{address} cannot be opened by transformers: {_reason(error)}") from None
    missing = sorted(loading["missing_keys"])
    notes: tuple[str, ...] = ()
    if missing:
        notes = (f"{len(missing)} tensors are not in the file and start at random: {missing[0]} …",)
    make, text = example(module)
    return from_module(
        module,
        address=address,
        name=name,
        inputs=make,
        input_text=text,
        config=config.to_dict(),
        notes=notes,
    )


def _reason(error: Exception) -> str:
    """The library's first sentence, but where it advises what it knows and the person does not."""
    text = str(error).strip().split("\n")[0]
    if "ignore_mismatched_sizes" in text:
        return "the shapes of its weights do not fit its config.json"
    if "weights_only" in text:
        return "its weights are a pickle that would run code; fetch them as safetensors"
    if "custom code" in text:
        return "it needs code that comes with it, and remote code is never run"
    return text


def _refuse_unreadable(config: Any, address: str) -> None:
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        method = dict(quantization).get("quant_method", "quantised")
        raise BadInput(f"{address} is stored as {method}; open the model before it was compressed")
