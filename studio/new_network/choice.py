"""What a new network is to be, and what follows from that. Pure: no widgets, no engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from ...engine.criteria import CRITERIA
from ...engine.errors import BadInput
from ...engine.new_network import ACTIVATIONS, PRESETS, NewNetwork, Preset, parse
from ...engine.patterns import PATTERNS
from ...engine.plan import Plan, Rule, Training
from ...engine.schedules import SCHEDULES

FIRST = "conv1"
"""The path of a convnet's first layer."""
_START = next(preset for preset in PRESETS if preset.name == "256x3")
"""What the dialog begins with: at 90 % it learns the digits about as well as a dense one."""
_TRAININGS = {
    "cross_entropy": Training(lr=0.1),
    "mse": Training(optimizer="adamw", lr=0.01, decay="onecycle"),
}
"""Trainings by the loss. Few weights on fresh inputs bear a larger step than a network that is
retrained. The squared error of sigmoids hardly changes where all outputs are near zero, and large
first steps lead there: a rate that rises first avoids it, and AdamW leaves what is flat."""
_VALUE, _INDEX, _TURNED = 4, 4, 8
"""Bytes of a weight in float32, of its column in CSR, and of its place in the transposed matrix."""


@dataclass(frozen=True)
class Choice:
    """What the dialog's fields say, as they are typed.

    `hidden` are widths as in ``300-100``, `shape` the size of an example as in ``1x8x8`` or ``28``.
    """

    kind: str = _START.kind
    hidden: str = "-".join(map(str, _START.hidden))
    data: str = "sample:digits"
    shape: str = "1x8x8"
    classes: int = 10
    activation: str = ACTIVATIONS[0]
    loss: str = "cross_entropy"
    growth: str = "gradient"
    sparsity: float = 0.9
    epochs: int = 60

    def network(self) -> NewNetwork:
        """The network; raises BadInput with one sentence that says what is wrong."""
        shape = self.shape.replace("×", "x").replace(" ", "")
        if self.kind == "mlp":
            shape = _flat(shape)
        hidden = "-".join(self.hidden.replace(",", " ").replace("-", " ").split())
        numbers = "-".join(part for part in (shape, hidden, str(self.classes)) if part)
        made = parse(f"new:{self.kind}:{numbers}")
        return replace(made, activation=self.activation)

    def like(self, preset: Preset) -> Choice:
        """The same with a preset's layers."""
        return replace(self, kind=preset.kind, hidden="-".join(map(str, preset.hidden)))

    def plan(self) -> Plan:
        """The plan that trains it; raises BadInput as `network` does."""
        network = self.network()
        pattern, criterion = PATTERNS.parse("element"), CRITERIA.parse("magnitude")
        rules = [Rule("*", pattern, criterion, self.sparsity)]
        if keeps_first(network):
            rules.insert(0, Rule(FIRST, pattern, criterion, 0.0))
        return Plan(
            model=network.address,
            rules=tuple(rules),
            schedule=SCHEDULES.parse({"kind": "sparse-training", "growth": self.growth}),
            training=replace(
                _TRAININGS[self.loss], data=self.data, epochs=self.epochs, loss=self.loss
            ),
        )


def keeps_first(network: NewNetwork) -> bool:
    """Whether its first layer stays dense: a convolution of an image has too few inputs to miss."""
    return network.kind == "convnet" and len(network.widths) > 1


@dataclass(frozen=True)
class Consequence:
    """What a sparsity leaves of a network.

    `weights` of `dense` are there. Bytes are those of the weights with their places, and those of
    weights, gradients and momentum while training, which needs the places transposed too. An
    output begins with at least `fewest` inputs, in the layer number `where`; `first_dense` says
    that the first layer is left out of this.
    """

    weights: int
    dense: int
    bytes: int
    dense_bytes: int
    training_bytes: int
    dense_training_bytes: int
    fewest: int
    where: int
    first_dense: bool


def consequence(network: NewNetwork, sparsity: float) -> Consequence:
    """What `sparsity` leaves of `network`; raises BadInput where an output gets no input."""
    first_dense, dense = keeps_first(network), network.weights
    sparse = network.matrices[1:] if first_dense else network.matrices
    kept = [out * ins - round(out * ins * sparsity) for out, ins in sparse]
    each = [count // out for count, (out, _) in zip(kept, sparse, strict=True)]
    fewest = min(each)
    place = each.index(fewest)
    where = place + 1 + first_dense
    if fewest < 1:
        ins = sparse[place][1]
        most = (1 - 1 / ins) * 100
        raise BadInput(
            f"At {sparsity * 100:.4g} % the outputs of layer {where} have no inputs left: with "
            f"{ins:,} inputs at most {most:.4g} % can go"
        )
    weights = sum(kept) + (prod(network.matrices[0]) if first_dense else 0)
    # Beside the columns a matrix has where each row begins, and the rows by their length.
    held = weights * _VALUE + (sum(kept) + sum(2 * out + 1 for out, _ in sparse)) * _INDEX
    turned = sum(kept) * _TURNED + sum(2 * ins + 1 for _, ins in sparse) * _INDEX
    return Consequence(
        weights, dense, held, dense * _VALUE,
        held + 2 * weights * _VALUE + turned, 3 * dense * _VALUE, fewest, where, first_dense,
    )  # fmt: skip


def _flat(shape: str) -> str:
    """The number of values in an example of this shape; left as it is where it is none."""
    product = 1
    for size in shape.split("x"):
        if not size.isdecimal():
            return shape
        product *= int(size)
    return str(product)
