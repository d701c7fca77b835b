"""Layers in sparse forms, to stand in the place of pruned ones, and their torch operators."""
