"""What the PostgreSQL store is made of."""
