"""Data for calibration, retraining and evaluation, by address."""

from .base import Augment, Data, InMemory, Split
from .inputs import Batch, Inputs, arguments, forward, to_device
from .load import fetch, load_data, only_reads, runs_code
from .spec import InputSpec

__all__ = [
    "Augment",
    "Batch",
    "Data",
    "InMemory",
    "InputSpec",
    "Inputs",
    "Split",
    "arguments",
    "fetch",
    "forward",
    "load_data",
    "only_reads",
    "runs_code",
    "to_device",
]
