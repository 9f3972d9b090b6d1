"""Confirmed effects: estimands, contrasts, power, and the verdicts on hypotheses."""
