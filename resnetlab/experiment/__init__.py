"""What a trial is, whatever it trains: its metrics, and the messages about it."""
