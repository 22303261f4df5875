"""Faults, one after another, against the real commands; `python -m tests.faults --help` says how to call it."""
