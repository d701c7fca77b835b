"""What the studio knows: model, plan, undo stack, runs, and the engine that does the work."""
