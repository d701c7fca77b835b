"""A plan at work: pruning, training, checkpoints and the account of it all."""
