"""Sparse formats and the operations on them: tensors in, tensors out. Knows nothing of models."""
