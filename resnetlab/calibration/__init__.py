"""Simulated worlds with known effects, and the error rates that the analysis has in them."""
