"""Timing dense against what can run faster, interleaved, on this machine."""
