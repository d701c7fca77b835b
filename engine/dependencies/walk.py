"""One walk over a traced graph: which channels hang together, and which are exactly zero."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from .rules import RULES, Call, Shape, keeps_zero, merge, through
from .spaces import Flags, Ids, Layout, Spaces, flags

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_ELEMENTWISE = (
    nn.CELU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ELU, nn.GELU,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.Mish,
    nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh,
    nn.Tanhshrink,
)  # fmt: skip
_SPATIAL = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.ReflectionPad1d, nn.ReflectionPad2d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.Upsample, nn.UpsamplingBilinear2d,
    nn.UpsamplingNearest2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
)  # fmt: skip
KNOWN = (
    *_CONV, *_TRANSPOSED, nn.Linear, *_BATCH_NORM, *_INSTANCE_NORM, *_ELEMENTWISE, *_SPATIAL,
    nn.Flatten,
)  # fmt: skip
_MODULE_PREFIXES = ("torch", "_operator", "builtins")
_ASKS = ("size", "dim", "ndimension", "numel", "getattr", "_assert")


def is_a(module: Any, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether the module is one of these and computes like it, not by a forward of its own."""
    return any(isinstance(module, k) and type(module).forward is k.forward for k in kinds)


def axes(module: Any) -> tuple[int, int]:
    """Dimensions of the outputs and the inputs in a convolution's or linear layer's weight."""
    return (1, 0) if is_a(module, _TRANSPOSED) else (0, 1)


def is_depthwise(module: Any) -> bool:
    """Whether the module is a convolution with one filter for each channel."""
    if not is_a(module, _CONV):
        return False
    return 1 < module.groups == module.in_channels == module.out_channels


class Tracer(fx.Tracer):
    """Symbolic tracing that keeps whole every layer that the walk knows."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if type(m).__name__ == "StochasticDepth" or is_a(m, KNOWN):
            return True
        return super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph once and notes the shape of every tensor."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(module, graph))
        self.shapes: dict[str, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def traced(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[fx.Graph, dict[str, Shape]]:
    """Trace `module` as it is called with these inputs; raises whatever the model's code raises.

    While it traces, torch.fx patches ``nn.Module`` for the whole process, so that no other thread
    may run a module meanwhile.
    """
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    given = set(bound.arguments)
    bound.apply_defaults()
    fixed = {name: value for name, value in bound.arguments.items() if name not in given}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of models that look at their inputs while traced
        graph = Tracer().trace(module, fixed or None)
        run = _Shapes(module, graph)
        run.run(*bound.arguments.values())
    return graph, run.shapes


class Walk:
    """Goes through a graph node by node and keeps what it learns of channels.

    `made` holds the atoms of each layer's outputs, `read` those of its inputs, `norms` those that
    each norm scales; `consumed` lists for every reading of channels the atoms and which of them
    the reader could do without: they are zero, or its weights on them are.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, shapes: dict[str, Shape]) -> None:
        self.root = root
        self.shapes = shapes
        self.spaces = Spaces()
        self.made: dict[str, Ids] = {}
        self.read: dict[str, Ids] = {}
        self.norms: dict[str, Ids] = {}
        self.opaque: dict[str, str] = {}
        self.consumed: list[tuple[str, Ids, Flags]] = []
        self.vectors: dict[str, list[str]] = defaultdict(list)
        self.tensors: list[Ids] = []
        self._layouts: dict[fx.Node, Layout | None] = {}
        self._shared = _shared_weights(root)
        # Modules that were called on something that is not followed, perhaps besides other calls.
        self._blind: set[str] = set()
        for node in graph.nodes:
            layout = self._step(node)
            self._layouts[node] = layout
            if layout is not None:
                self.tensors.append(layout.atoms)
            if _in_place(node, root):
                self._layouts[node.all_input_nodes[0]] = layout
        for path in self._blind:
            for known in (self.read, self.norms):
                if path in known:
                    reason = f"{path} also reads channels that are not followed"
                    self.spaces.freeze(known[path], reason)

    def _step(self, node: fx.Node) -> Layout | None:
        if node.op in ("placeholder", "get_attr"):
            return None
        if node.op == "output":
            return self._freeze(node, "the model's output")
        if node.op == "call_module":
            return self._module(node)
        return self._function(node)

    def _freeze(self, node: fx.Node, reason: str = "") -> Layout | None:
        """Let the channels of everything that `node` takes in stay; its result is not followed."""
        reason = reason or f"an operation that is not followed: {self._where(node)}"
        for source in node.all_input_nodes:
            layout = self._layouts[source]
            if layout is not None:
                self.spaces.freeze(layout.atoms, reason)
            elif source.op == "get_attr":
                owner = str(source.target).rpartition(".")[0]
                self.opaque[owner] = f"its weight is used by {reason}"
        return None

    def _where(self, node: fx.Node) -> str:
        if node.op == "call_module":
            kind = type(self.root.get_submodule(str(node.target))).__name__
            return f"{kind} at {node.target}"
        stack = list(node.meta.get("nn_module_stack", {}).values())
        place = stack[-1][0] if stack else ""
        return f"{_name(node)} at {place}" if place else _name(node)

    # Modules

    def _module(self, node: fx.Node) -> Layout | None:
        path = str(node.target)
        module: Any = self.root.get_submodule(path)
        layout = self._layouts[node.all_input_nodes[0]] if node.all_input_nodes else None
        if layout is None:
            self._blind.add(path)
        if is_a(module, (nn.Linear, *_CONV, *_TRANSPOSED)):
            return self._layer(node, path, module, layout)
        if type(module).__name__ == "StochasticDepth":
            return layout
        if layout is not None and len(node.all_input_nodes) == 1:
            before, after = self.shapes[node.all_input_nodes[0].name], self.shapes.get(node.name)
            result = self._weightless(path, module, layout, before, after or ())
            if result is not None:
                return result
        self._blind.add(path)
        kind = type(module).__name__
        self.opaque[path] = f"it belongs to {kind} at {path}, which is not followed"
        return self._freeze(node)

    def _weightless(
        self, path: str, module: Any, layout: Layout, before: Shape, after: Shape
    ) -> Layout | None:
        if is_a(module, (*_BATCH_NORM, *_INSTANCE_NORM)):
            return self._norm(path, module, layout)
        if is_a(module, _ELEMENTWISE) and before == after:
            return through(layout, keeps_zero(module))
        if is_a(module, _SPATIAL):
            same = layout.dim == 1 and len(before) > 2 and len(after) == len(before)
            return layout if same and after[1] == before[1] else None
        if is_a(module, (nn.Flatten,)):
            start, end = module.start_dim % len(before), module.end_dim % len(before)
            return merge(layout, before, start, end)
        return None

    def _norm(self, path: str, module: Any, layout: Layout) -> Layout | None:
        if layout.dim != 1 or len(layout.atoms) != module.num_features:
            return None
        self._unite_with(self.norms, path, layout.atoms)
        instance = is_a(module, _INSTANCE_NORM) and module.running_mean is None
        if module.weight is None:
            zero = layout.zero if instance else np.zeros_like(layout.zero)
            return replace(layout, zero=zero, seen=())
        flat = flags(module.weight == 0) | layout.zero if instance else flags(module.weight == 0)
        self._goes_with(layout.seen, f"{path}.weight", f"{path}.bias")
        return replace(layout, zero=flat & flags(module.bias == 0))

    def _goes_with(self, layers: tuple[str, ...], *names: str) -> None:
        for path in layers:
            self.vectors[path].extend(n for n in names if n not in self.vectors[path])

    def _unite_with(self, known: dict[str, Ids], path: str, atoms: Ids) -> None:
        """A module that is called again ties the channels of its calls together."""
        if path in known and known[path] is not atoms:
            self.spaces.unite(known[path], atoms)
        known.setdefault(path, atoms)

    def _layer(self, node: fx.Node, path: str, module: Any, layout: Layout | None) -> Layout | None:
        source = self.shapes[node.all_input_nodes[0].name]
        dim = len(source) - len(module.weight.shape) + 1
        if layout is not None and layout.dim != dim:
            layout = self._freeze(node)
            self._blind.add(path)
        if getattr(module, "groups", 1) > 1:
            return self._grouped(node, path, module, layout)
        out_axis, _ = axes(module)
        heavy = (module.weight != 0).transpose(0, 1) if out_axis else module.weight != 0
        used = flags(heavy.flatten(2).any(2) if heavy.dim() > 2 else heavy)
        alive = np.ones(used.shape[1], dtype=np.bool_) if layout is None else ~layout.zero
        zero = ~used[:, alive].any(axis=1) & self._bias_is_zero(module)
        if layout is not None:
            self._unite_with(self.read, path, layout.atoms)
            self.consumed.append((path, layout.atoms, layout.zero | ~used.any(axis=0)))
        if path not in self.made:
            self.made[path] = self.spaces.fresh(module.weight.shape[out_axis])
        atoms = self.made[path]
        if path in self._shared:
            reason = f"its weight is shared with {self._shared[path]}"
            for ids in [atoms] + ([layout.atoms] if layout is not None else []):
                self.spaces.freeze(ids, reason)
        if module.bias is not None:
            self._goes_with((path,), f"{path}.bias")
        return Layout(dim, atoms, zero, (path,))

    def _grouped(
        self, node: fx.Node, path: str, module: Any, layout: Layout | None
    ) -> Layout | None:
        if is_depthwise(module) and layout is not None and path not in self._shared:
            self._unite_with(self.made, path, layout.atoms)
            if module.bias is not None:
                self._goes_with((*layout.seen, path), f"{path}.bias")
            blank = flags((module.weight == 0).flatten(1).all(1))
            zero = (layout.zero | blank) & self._bias_is_zero(module)
            return replace(layout, zero=zero, seen=(*layout.seen, path))
        reason = f"the {module.groups} groups of the convolution at {path}"
        self._freeze(node, reason)
        if path not in self.made:
            self.made[path] = self.spaces.fresh(module.out_channels)
        atoms = self.made[path]
        self.spaces.freeze(atoms, reason)
        if module.bias is not None:
            self._goes_with((path,), f"{path}.bias")
        zero = np.zeros(len(atoms), dtype=np.bool_)
        if axes(module)[0] == 0:
            zero |= flags((module.weight.flatten(1) == 0).all(1)) & self._bias_is_zero(module)
        dim = len(self.shapes[node.name]) - len(module.weight.shape) + 1
        return Layout(dim, atoms, zero, (path,))

    @staticmethod
    def _bias_is_zero(module: Any) -> Flags:
        if module.bias is None:
            return np.ones(1, dtype=np.bool_)
        return flags(module.bias == 0)

    # Functions and tensor methods

    def _function(self, node: fx.Node) -> Layout | None:
        name = _name(node)
        if node.name not in self.shapes:
            return None if name in _ASKS else self._freeze(node)
        if not _is_torch(node):
            return self._freeze(node)
        if name in ("cat", "concat", "concatenate"):
            return self._cat(node)
        if name in _JOINS:
            return self._join(node, _JOINS[name])
        sources = node.all_input_nodes
        first = node.args[0] if node.args else None
        layout = self._layouts[first] if isinstance(first, fx.Node) else None
        if layout is not None and isinstance(first, fx.Node) and name in RULES:
            call = Call(node, name, self.shapes[first.name], self.shapes[node.name])
            result = RULES[name](layout, call)
            others = [s for s in sources if s is not first and self._layouts[s] is not None]
            if result is not None and not others:
                return result
        return self._freeze(node)

    def _cat(self, node: fx.Node) -> Layout | None:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(parts, (tuple, list)) or not isinstance(dim, int):
            return self._freeze(node)
        dim %= len(self.shapes[node.name])
        layouts = [self._layouts[p] for p in parts if isinstance(p, fx.Node)]
        known = [layout for layout in layouts if layout is not None]
        if len(known) < len(parts) or len({layout.dim for layout in known}) > 1:
            return self._freeze(node)
        if known[0].dim == dim:
            atoms = np.concatenate([layout.atoms for layout in known])
            return Layout(dim, atoms, np.concatenate([layout.zero for layout in known]))
        zero = known[0].zero
        for layout in known[1:]:
            self.spaces.unite(known[0].atoms, layout.atoms)
            zero = zero & layout.zero
        return Layout(known[0].dim, known[0].atoms, zero)

    def _join(self, node: fx.Node, zeros: Callable[[Flags, Flags], Flags]) -> Layout | None:
        """Two operands, one by one: their channels become the same channels."""
        left, right = node.args[:2] if len(node.args) > 1 else (None, None)
        if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
            return self._with_number(node, left, right, zeros)
        one, two = self._layouts[left], self._layouts[right]
        shape = self.shapes[node.name]
        if one is None or two is None or left.name not in self.shapes:
            return self._freeze(node)
        behind = [len(self.shapes[n.name]) - x.dim for n, x in ((left, one), (right, two))]
        if behind[0] != behind[1] or len(one.atoms) != len(two.atoms):
            return self._freeze(node)
        self.spaces.unite(one.atoms, two.atoms)
        zero = zeros(one.zero, two.zero)
        return Layout(len(shape) - behind[0], one.atoms, zero)

    def _with_number(
        self, node: fx.Node, left: Any, right: Any, zeros: Callable[[Flags, Flags], Flags]
    ) -> Layout | None:
        tensor, number = (left, right) if isinstance(left, fx.Node) else (right, left)
        layout = self._layouts[tensor] if isinstance(tensor, fx.Node) else None
        upside_down = zeros is _quotient and tensor is not left
        if layout is None or not isinstance(number, (int, float)) or upside_down:
            return self._freeze(node)
        blank = np.full_like(layout.zero, number == 0)
        return replace(layout, zero=zeros(layout.zero, blank))


def _sum(left: Flags, right: Flags) -> Flags:
    return left & right


def _product(left: Flags, right: Flags) -> Flags:
    return left | right


def _quotient(left: Flags, right: Flags) -> Flags:
    # Zero by zero is not a number, so a zero divisor counts as no zero.
    return left & ~right


_JOINS: dict[str, Callable[[Flags, Flags], Flags]] = {
    **dict.fromkeys(["add", "iadd", "add_", "sub", "isub", "sub_"], _sum),
    **dict.fromkeys(["mul", "imul", "mul_", "multiply"], _product),
    **dict.fromkeys(["div", "truediv", "itruediv", "div_"], _quotient),
}


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")


def _is_torch(node: fx.Node) -> bool:
    """Whether the name of a call means what it means in PyTorch."""
    if isinstance(node.target, str):
        return True
    home = getattr(node.target, "__module__", None) or "torch"
    return home.split(".")[0] in _MODULE_PREFIXES or _name(node) == "stochastic_depth"


def _in_place(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node writes over what it takes in, which later readers then see."""
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = _name(node)
    written = name in ("iadd", "isub", "imul", "itruediv") or name.endswith("_")
    return bool(node.all_input_nodes) and (written or bool(node.kwargs.get("inplace")))


def _shared_weights(root: nn.Module) -> dict[str, str]:
    """Layers whose weight is also another module's, by path."""
    homes: dict[int, list[str]] = defaultdict(list)
    for path, module in root.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            homes[id(weight)].append(path)
    groups = [paths for paths in homes.values() if len(paths) > 1]
    return {p: next(q for q in paths if q != p) for paths in groups for p in paths}
