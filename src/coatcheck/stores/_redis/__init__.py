"""What the Redis store is made of."""
