"""What a run found: per layer and whole model, as data and as a page that opens by itself."""

from .report import LayerReport, LevelReport, Report

__all__ = ["LayerReport", "LevelReport", "Report"]
