"""What the search shows: curves, importance, and the comparisons that would mislead."""
