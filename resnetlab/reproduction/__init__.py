"""The published studies, and what was printed against what was measured."""
