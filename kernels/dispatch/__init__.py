"""Which of several ways to compute a layer is the fastest here, found by measuring."""
