"""An engine in the test's own process: small real matrices, answers by NumPy, no torch.

It answers what a picture asks, from the event loop like the real one, and remembers the questions.
With `hold` set, answers wait until `release`. The real engine's answers are tested with the real
engine.
"""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QTimer

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session


class RecordedEngine(EngineClient):
    def __init__(self, matrices, masks=None):
        super().__init__(["/nonexistent"])
        self.matrices = matrices
        self.masks = masks or {}
        self.before = {}
        self.images = {}
        self.evolution = (0, 0)
        self.asked = []
        self.jobs = []
        self.hold = False
        self.fail = ""
        self._held = []
        self.state = "ready"
        self.hello = {"device": "cpu", "threads": 2}

    def start(self):
        pass

    def shutdown(self, wait_ms=0):
        self.state = "stopped"

    def start_job(self, job, params, on_started, on_error=None):
        self.jobs.append((job, params))

    def request(self, method, params, on_reply, on_error=None):
        self.asked.append((method, params))

        def answer():
            if self.fail:
                on_error(self.fail)
            else:
                on_reply(*getattr(self, f"_{method}")(params))

        if self.hold:
            self._held.append(answer)
        else:
            QTimer.singleShot(0, self, answer)

    def release(self):
        """Answer the oldest question that waits."""
        self._held.pop(0)()

    def kept(self, layer, rule):
        w = np.abs(self.matrices[layer])
        if rule is None:
            return self.masks.get(layer, np.ones(w.shape, bool))
        units = {"group": w.mean(0, keepdims=True), "filter": w.mean(1, keepdims=True)}
        scores = units.get(rule["pattern"], w)
        pruned = round(rule.get("sparsity", 0.5) * scores.size)
        order = np.argsort(scores, axis=None, kind="stable")
        flags = np.ones(scores.size, bool)
        flags[order[:pruned]] = False
        return np.broadcast_to(flags.reshape(scores.shape), w.shape)

    def _summary(self, layer, kept):
        w = self.matrices[layer]
        return {
            "achieved": 1 - float(kept.mean()),
            "energy": float((w[kept] ** 2).sum() / (w**2).sum()),
            "kept_units": int(kept.sum()),
            "units": kept.size,
            "unit": "weight",
            "misfit": "is smaller than one block" if layer == "misfit" else None,
        }

    def _tile(self, params):
        layer, (top, left, bottom, right) = params["layer"], params["rect"]
        w, kept = self.matrices[layer], self.kept(layer, params["rule"])
        rows = _edges(top, bottom, params["size"][0])
        columns = _edges(left, right, params["size"][1])
        if params["view"] == "topology":
            return self._topology_tile(layer, kept, rows, columns)
        source = w if params["view"] == "weight" else np.abs(w)
        if params["view"] == "change":
            source = w * 0
        value, density = _pool(source, rows, columns), _pool(kept.astype(float), rows, columns)
        low, high = float(value.min()), float(value.max())
        if params["view"] == "weight":
            low, high = -float(np.abs(value).max()), float(np.abs(value).max())
        shade = (value - low) / (high - low or 1) * 255
        meta = {"lo": low, "hi": high, **self._summary(layer, kept)}
        return meta, {"value": shade.round().astype(np.uint8),
                      "density": (density * 255).round().astype(np.uint8)}  # fmt: skip

    def _value(self, params):
        layer, row, column = params["layer"], params["row"], params["column"]
        kept = self.kept(layer, params["rule"])
        value = float(self.matrices[layer][row, column])
        return {"value": value, "kept": bool(kept[row, column])}, {}

    def codes(self, layer, kept):
        """0 nothing, 1 kept, 2 grown, 3 dropped since the masks in `before`."""
        before = self.before.get(layer, kept)
        return np.select([kept & before, kept, before], [1, 2, 3], 0).astype(np.uint8)

    def _topology_tile(self, layer, kept, rows, columns):
        value = self.codes(layer, kept)
        value = np.maximum.reduceat(value[: rows[-1], : columns[-1]], rows[:-1], axis=0)
        value = np.maximum.reduceat(value, columns[:-1], axis=1)
        density = (_pool(kept.astype(float), rows, columns) * 255).round().astype(np.uint8)
        return self._summary(layer, kept), {"value": value, "density": density}

    def _topology(self, params):
        layer = params["layer"]
        kept = self.kept(layer, params["rule"])
        codes = self.codes(layer, kept)
        evolution, step = self.evolution
        meta = {
            "step": step, "evolution": evolution, "kept": int(kept.sum()),
            "grown": int((codes == 2).sum()), "dropped": int((codes == 3).sum()),
            "dead_outputs": int((~kept.any(1)).sum()), "out": kept.shape[0], "in": kept.shape[1],
            "image": self.images.get(layer),
        }  # fmt: skip
        return meta, {"inputs": kept.sum(0).astype("i4"), "outputs": kept.sum(1).astype("i4")}

    def _histogram(self, params):
        layer = params["layer"]
        w, kept = self.matrices[layer], self.kept(layer, params["rule"])
        peak = float(np.abs(w).max())
        edges = np.linspace(-peak, peak, params["bins"] + 1).astype(np.float32)
        every, _ = np.histogram(w, edges)
        left, _ = np.histogram(w[kept], edges)
        meta = {
            "lo": -peak, "hi": peak, "zeros": int((w == 0).sum()), "total": w.size,
            "mean": float(w.mean()), "std": float(w.std()),
            "kept_mean": float(w[kept].mean()), "kept_std": float(w[kept].std()),
            **self._summary(layer, kept),
        }  # fmt: skip
        return meta, {"edges": edges, "all": every, "kept": left}


def _edges(start, stop, pixels):
    count = min(pixels, stop - start)
    return start + np.arange(count + 1) * (stop - start) // count


def _pool(matrix, rows, columns):
    sums = np.add.reduceat(matrix[: rows[-1], : columns[-1]], rows[:-1], axis=0)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def layer_info(path, gemm, prunable=True):
    kind = "Conv2d" if gemm.kernel else "Linear"
    size = gemm.shape[0] * gemm.shape[1]
    return LayerInfo(path, kind, f"{path}.weight", gemm.stored, size, "float32", gemm,
                     prunable=prunable)  # fmt: skip


def recorded_session(home, gemms, matrices=None, masks=None):
    """A real Session on a recorded engine, with a model of these layers open."""
    generator = np.random.default_rng(5)
    matrices = matrices or {}
    for path, gemm in gemms.items():
        out, ins = gemm.shape
        if path not in matrices:
            loud = 0.3 + np.abs(np.sin(np.arange(ins) * 0.37) * np.sin(np.arange(ins) * 0.051))
            matrices[path] = (generator.standard_normal((out, ins)) * loud * 0.02).astype("f4")
    client = RecordedEngine(matrices, masks)
    session = Session(client, home)
    norm = LayerInfo("bn", "BatchNorm2d", "bn.weight", (8,), 8, "float32",
                     reason="A norm has no matrix.")  # fmt: skip
    rows = (*(layer_info(path, gemm) for path, gemm in gemms.items()), norm)
    total = sum(row.params for row in rows)
    session.info = ModelInfo("recorded", "recorded", rows, total, 4 * total)
    session.model_changed.emit()
    session.select(list(gemms)[:1])
    return session


CONV = Gemm((128, 128, 3, 3), (3, 3))
LINEAR = Gemm((10, 64))
