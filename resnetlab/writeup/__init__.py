"""A study written up: tables, methods and a checklist for a paper, and an archive that a reviewer can check."""
