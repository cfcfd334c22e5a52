"""Integrations: thin adapters that carry a session between a framework and `Sessions`."""
