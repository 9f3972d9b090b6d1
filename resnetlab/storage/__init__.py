"""The results folder: whole files, one writer, tables that survive a kill."""
