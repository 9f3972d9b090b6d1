"""The sections of a study file, each with what it checks by itself: `search`, `confirm`, `resources`."""
