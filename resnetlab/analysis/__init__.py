"""What the tables say, computed with numpy and pandas alone: neither torch nor Ray."""
