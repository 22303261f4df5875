"""Models that say where in a picture a sound comes from."""
