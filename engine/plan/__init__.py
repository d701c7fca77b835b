"""Everything that a run needs and nothing of its state, and the file that it is written to."""

from .parts import Rule, Training, training_fields
from .plan import Plan, plan_fields

__all__ = ["Plan", "Rule", "Training", "plan_fields", "training_fields"]
