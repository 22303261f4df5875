"""Coverage-guided fuzzing of what reads files from others; see `__main__.py`."""
