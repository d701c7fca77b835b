"""The plan's panel: what to do with the selected layers, and why not."""
