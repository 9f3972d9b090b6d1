"""The sections of the report, as text and tables."""
