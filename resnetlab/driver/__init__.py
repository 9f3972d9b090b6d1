"""Runs a study: checks the request, opens the results folder, and drives the sweep on a backend."""
