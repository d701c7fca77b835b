"""Choosing what to keep: by rank, by threshold, N of every M, by pattern, by second order."""
