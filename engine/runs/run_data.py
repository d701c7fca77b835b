"""What a run trains with and measures on."""

from __future__ import annotations

from dataclasses import replace

from ..data import Data, load_data, runs_code
from ..errors import BadInput, NeedsConsent
from ..models.model import Model
from ..new_network import untrained
from ..plan import Plan, Training


def training_of(model: Model, plan: Plan) -> Training | None:
    """The training that a run will do, or None; raises BadInput where it cannot be done."""
    if not plan.schedule.trains and (plan.training is None or plan.training.epochs == 0):
        return None
    training = plan.training or Training()
    model.runnable()
    if training.distil and untrained(model.address):
        raise BadInput(
            f"the plan distils, but {model.address} has learned nothing that it could teach; leave "
            "distil out of the training"
        )
    if training.data is None and model.info.data is None:
        raise BadInput(
            f"the plan trains ({plan.schedule.kind}) but names no data; "
            "add training: {data: …} to the plan or pass --data"
        )
    return replace(training, data=training.data or model.info.data)


def data_of(model: Model, plan: Plan, trust: bool = False) -> Data | None:
    """The data to evaluate on: the plan's, else the model's own; None for weights alone.

    A plan is a file from outside: raises NeedsConsent where its data is made by running code,
    unless `trust` says that this is wanted.
    """
    asked = plan.training.data if plan.training else None
    if asked:
        model.runnable()
    address = asked or model.info.data
    if address is None or model.module is None:
        return None
    if not trust and runs_code(address):
        raise NeedsConsent(
            f"the plan makes its data by running {address}; if you trust that, say so with "
            f"--data {address}"
        )
    return load_data(address, model)
