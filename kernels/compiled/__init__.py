"""Loops for the CPU, compiled on first use by numba. Imported only where `ready` says yes."""
