"""Which runs answer the question: designs, and the plan that is written down before any of them is run."""
