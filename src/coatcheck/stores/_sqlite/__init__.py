"""What the SQLite store is made of."""
