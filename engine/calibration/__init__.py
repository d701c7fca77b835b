"""Passes over calibration data, and the statistics that criteria take from them."""
