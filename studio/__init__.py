"""The Qt application. Knows pixels and the person; holds no tensors and imports no torch."""
