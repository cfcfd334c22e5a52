"""What the file store is made of."""
