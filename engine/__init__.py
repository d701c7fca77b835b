"""Models, plans, pruning, training, measuring, exporting. Knows no window."""
