"""Stores, their importers, and everything that turns media into what towers read."""
