"""What trained networks did on the test split, by class and by image."""
