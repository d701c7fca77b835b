"""Group-wise products (S1, algorithms 1 and 2): only the kept columns of W, gathered."""
