"""Layer paths folded into a tree that reads well: few levels, no level with a single child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_FOLD = 6
"""A module with at most this many layers is folded into its parent: ``layer1`` › ``0.conv1``."""


@dataclass
class Node:
    """A group (`path` of a module) or a layer (`layer` is its position in the table)."""

    label: str
    path: str
    layer: int | None = None
    children: list[Node] = field(default_factory=list)

    def layers(self) -> list[int]:
        """Positions of all layers below, in order."""
        if self.layer is not None:
            return [self.layer]
        return [number for child in self.children for number in child.layers()]


def group(paths: Sequence[str]) -> Node:
    """The tree of `paths`; order is kept as given within each group."""
    root = Node("", "")
    groups: dict[str, Node] = {"": root}
    for number, path in enumerate(paths):
        parent, parts = root, path.split(".")
        for depth in range(1, len(parts)):
            name = ".".join(parts[:depth])
            if name not in groups:
                groups[name] = Node(parts[depth - 1], name)
                parent.children.append(groups[name])
            parent = groups[name]
        parent.children.append(Node(parts[-1], path, number))
    root.children = [_join(child) for child in root.children]
    for child in root.children:
        _fold(child)
    return root


def _join(node: Node) -> Node:
    """Join a group with its only child."""
    if node.layer is not None:
        return node
    node.children = [_join(child) for child in node.children]
    if len(node.children) == 1:
        (child,) = node.children
        child.label = f"{node.label}.{child.label}"
        return child
    return node


def _fold(node: Node) -> None:
    children: list[Node] = []
    for child in node.children:
        if child.layer is None and len(child.layers()) <= _FOLD:
            for layer in _leaves(child):
                layer.label = layer.path[len(child.path) - len(child.label) :]
                children.append(layer)
        else:
            _fold(child)
            children.append(child)
    node.children = children


def _leaves(node: Node) -> list[Node]:
    if node.layer is not None:
        return [node]
    return [leaf for child in node.children for leaf in _leaves(child)]
