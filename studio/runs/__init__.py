"""Runs as they happen, and what comes out of them."""
