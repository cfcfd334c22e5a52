"""What the Memcached store is made of."""
