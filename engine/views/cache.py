"""A cache bounded by bytes: the least recently used entries go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")
Key = tuple[Any, ...]


class ByteCache:
    """Keeps what was expensive to make, up to `budget` bytes, by keys that begin with a layer.

    The newest entry always stays, even where it alone is larger than the budget.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._entries: OrderedDict[Key, tuple[Any, int]] = OrderedDict()

    def fetch(self, key: Key, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The entry at `key`, made with `make` where there is none. `size` gives its bytes."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return cast(T, self._entries[key][0])
        value = make()
        self.put(key, value, size(value))
        return value

    def get(self, key: Key) -> Any:
        """The entry at `key`, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Key, value: Any, nbytes: int) -> None:
        """Set an entry, replacing the one at its key, and drop old ones beyond the budget."""
        self._drop(key)
        self._entries[key] = (value, nbytes)
        self.nbytes += nbytes
        while self.nbytes > self.budget and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def forget(self, layer: str | None = None) -> None:
        """Drop everything, or everything of one layer."""
        for key in [k for k in self._entries if layer is None or k[0] == layer]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if key in self._entries:
            self.nbytes -= self._entries.pop(key)[1]
