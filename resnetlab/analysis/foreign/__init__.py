"""Runs that were made elsewhere: read from a table, refused where they cannot carry a comparison, and compared."""
