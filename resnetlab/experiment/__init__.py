"""What a trial is, whatever it trains: its metrics."""
