"""mcnlab finds out what multimodal self-supervision keeps, and what it forgets."""
