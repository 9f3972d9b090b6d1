"""A sweep as a state machine: what to run next, what a report means. Knows neither Ray nor torch."""
