"""The figures: which there are, and how each is drawn."""
