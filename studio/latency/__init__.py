"""The latency lab: what was measured, in five pictures, and what to measure."""
