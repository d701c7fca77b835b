"""S1 (Liu et al.): the figures it prints, its forms by name, its order. Torch-free."""
