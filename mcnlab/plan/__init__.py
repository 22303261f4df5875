"""What an experiment will cost at a size, before anything is started: measured rates times counted work."""
