"""How many trials share a GPU: measured, then decided."""
