"""Cells as the engine's ``measure`` gives them, with invented times."""

from secateur.engine.verdicts import verdict


def cell(layer, pattern, kept, dense, ms, ran="grouped (gather)", *, batch=1, busy=False, **more):
    """A measured cell; its verdict is the engine's own on these times."""
    made = {
        "model": "m", "layer": layer, "pattern": pattern, "kept": kept, "batch": batch,
        "dtype": "float32", "device": "cpu", "ran": ran, "dense_ms": dense, "ms": ms,
        "speedup": dense / ms, "spread": 0.05, "q1_ms": ms * 0.97, "q3_ms": ms * 1.05,
        "dense_q1_ms": dense * 0.98, "dense_q3_ms": dense * 1.03, "tried": [], "roofline": None,
        "steps": [], "cached": False, "crossover": None, **more,
    }  # fmt: skip
    return {**made, "verdict": verdict(made, busy)}


def stays_dense(layer, pattern, kept, dense, lost, path="CSR", **more):
    """A cell where the fastest sparse form, `lost` ms long, lost to dense."""
    tried = [{"path": path, "ms": lost, "q1_ms": lost * 0.97, "q3_ms": lost * 1.04}]
    return cell(layer, pattern, kept, dense, dense, "dense", tried=tried, **more)


def failed(layer, pattern, kept, error, batch=1):
    """A row of what could not be measured."""
    return {"model": "m", "layer": layer, "pattern": pattern, "kept": kept, "batch": batch,
            "dtype": "float32", "device": "cpu", "error": error}  # fmt: skip
