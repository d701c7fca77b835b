"""Making a masked model really smaller: what nothing needs any more is cut out of a copy."""

from .compact import Compacted, committed, compact, count
from .cutting import cut_outputs, is_depthwise

__all__ = ["Compacted", "committed", "compact", "count", "cut_outputs", "is_depthwise"]
