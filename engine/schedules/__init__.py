"""Schedules: when masks change. One file each; `SCHEDULES` finds them."""

from .base import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Schedule"]
