"""Published studies: their printed results, how to rerun them, and a comparison of both."""
