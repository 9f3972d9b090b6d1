"""Fixtures and settings for all tests."""

import hypothesis

# Seconds of a wall clock say nothing on a machine that others use.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")
