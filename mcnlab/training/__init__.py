"""The objective's terms, the stages, the step, the loop and its checkpoints."""
