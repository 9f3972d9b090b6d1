"""Figures, sections and the page, from the tables alone."""
