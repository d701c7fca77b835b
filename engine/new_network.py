"""Fresh networks by their address: ``new:mlp:64-300-100-10``, ``new:convnet:1x8x8-16-32-10``.

Nothing here imports torch: the studio checks what a person types with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from urllib.parse import parse_qsl

from .errors import BadInput, nearest

SCHEME = "new"
ACTIVATIONS = ("relu", "sigmoid", "tanh")
KINDS = ("mlp", "convnet")
KERNEL = 3
"""Side of the kernels of a convnet, which are padded to keep an image's size."""

_EXAMPLES = {"mlp": "new:mlp:64-300-100-10", "convnet": "new:convnet:1x8x8-16-32-10"}
_MOST_WEIGHTS = 1 << 31


@dataclass(frozen=True)
class NewNetwork:
    """A network that is not trained yet; the same address is the same network with equal weights.

    An ``mlp`` takes `shape` (features,), and `widths` are those of all its layers after that, the
    last one the classes. A ``convnet`` takes an image `shape` (channels, height, width); `widths`
    are the channels of its convolutions, each of which halves the image afterwards while it has two
    pixels each way, and last the classes of its linear layer. `activation` follows every layer but
    the last.
    """

    kind: str
    shape: tuple[int, ...]
    widths: tuple[int, ...]
    activation: str = "relu"

    @property
    def address(self) -> str:
        """The address that `parse` reads back equal."""
        numbers = "-".join(["x".join(map(str, self.shape)), *map(str, self.widths)])
        query = "" if self.activation == ACTIVATIONS[0] else f"?activation={self.activation}"
        return f"{SCHEME}:{self.kind}:{numbers}{query}"

    @property
    def name(self) -> str:
        """What a person reads: the address without its scheme."""
        return self.address.removeprefix(f"{SCHEME}:")

    @property
    def classes(self) -> int:
        """The scores that it gives."""
        return self.widths[-1]

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of what a convnet's linear layer reads."""
        _, high, wide = self.shape
        for _ in self.widths[:-1]:
            high, wide = pooled(high, wide)
        return high, wide

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(out, in) of each layer's weight matrix, in order."""
        if self.kind == "mlp":
            return tuple((out, ins) for ins, out in pairwise((*self.shape, *self.widths)))
        channels = (self.shape[0], *self.widths[:-1])
        convolutions = ((out, ins * KERNEL**2) for ins, out in pairwise(channels))
        return (*convolutions, (self.classes, channels[-1] * prod(self.image)))

    @property
    def weights(self) -> int:
        """Number of weights without biases."""
        return sum(out * ins for out, ins in self.matrices)


@dataclass(frozen=True)
class Preset:
    """Widths to begin with: `hidden` layers of a network of this `kind`."""

    name: str
    label: str
    summary: str
    kind: str
    hidden: tuple[int, ...]

    def network(
        self, shape: Sequence[int], classes: int, activation: str = ACTIVATIONS[0]
    ) -> NewNetwork:
        """The network for inputs of `shape`, (features,) or (channels, height, width).

        Raises BadInput where a convnet has no image, or for a size below one.
        """
        given = tuple(shape)
        if self.kind == "mlp":
            given = (prod(given),)
        return _checked(NewNetwork(self.kind, given, (*self.hidden, classes), activation))


PRESETS = (
    Preset("300-100", "LeNet-300-100", "Two hidden layers, for small images", "mlp", (300, 100)),
    Preset("256x3", "256 × 3", "Three hidden layers, trained in the paper", "mlp", (256,) * 3),
    Preset("512x5", "512 × 5", "Five hidden layers, timed in the paper", "mlp", (512,) * 5),
    Preset("conv", "Small convnet", "Two convolutions of 3 × 3 and a layer", "convnet", (16, 32)),
)
"""The networks that can be picked by name; the MLPs are those of S3 and of LeCun et al. 1998."""


def pooled(high: int, wide: int) -> tuple[int, int]:
    """The size of an image after a convolution of a convnet."""
    return (high // 2, wide // 2) if min(high, wide) >= 2 else (high, wide)


def is_new(address: str) -> bool:
    """Whether an address names a fresh network."""
    return address.partition(":")[0] == SCHEME


def untrained(address: str) -> bool:
    """Whether a model has learned nothing when it is opened: its weights are drawn by chance.

    That is so for fresh networks, and for torchvision's without ``?weights=``.
    """
    scheme, _, rest = address.partition(":")
    return scheme == SCHEME or (scheme == "torchvision" and "weights=" not in rest)


def parse(address: str) -> NewNetwork:
    """Read ``new:mlp:FEATURES-WIDTH-…-CLASSES`` or ``new:convnet:CxHxW-CHANNELS-…-CLASSES``.

    ``?activation=A`` may follow. Raises BadInput, one sentence that says how it is written.
    """
    rest, _, query = address.removeprefix(f"{SCHEME}:").partition("?")
    kind, _, numbers = rest.partition(":")
    if kind not in KINDS:
        raise BadInput(f"{address}: unknown kind of new network '{kind}'{nearest(kind, KINDS)}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    activation = options.pop("activation", ACTIVATIONS[0])
    for option in options:
        raise BadInput(f"{address}: unknown option '{option}'; known: activation")
    if activation not in ACTIVATIONS:
        hint = nearest(activation, ACTIVATIONS)
        raise BadInput(f"{address}: unknown activation '{activation}'{hint}")
    first, *widths = numbers.split("-")
    try:
        shape = tuple(int(size) for size in first.split("x"))
        network = NewNetwork(kind, shape, tuple(int(width) for width in widths), activation)
    except ValueError:
        raise BadInput(f"{address}: sizes are whole numbers, as in {_EXAMPLES[kind]}") from None
    return _checked(network, address)


def _checked(network: NewNetwork, address: str | None = None) -> NewNetwork:
    """The network itself; raises BadInput for one that cannot be."""
    address = address or network.address
    sizes = (*network.shape, *network.widths)
    dims = 1 if network.kind == "mlp" else 3
    if len(network.shape) != dims or not network.widths:
        what = "an image CxHxW" if dims == 3 else "the number of features"
        raise BadInput(
            f"{address}: begin with {what} and end with the classes, as in "
            f"{_EXAMPLES[network.kind]}"
        )
    if min(sizes) < 1:
        raise BadInput(f"{address}: every width must be at least 1, not {min(sizes)}")
    if network.weights > _MOST_WEIGHTS:
        raise BadInput(
            f"{address} would have {network.weights:,} weights; at most {_MOST_WEIGHTS:,} can be "
            "opened"
        )
    return network
