"""Sparse matrices that are trained from scratch: where their entries begin, and how they move."""
