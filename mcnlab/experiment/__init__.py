"""Experiments: their settings, their parts put together, and one run from data to results."""

from mcnlab.experiment.loaded import Embeddings, Run, embed, load_run
from mcnlab.experiment.run import evaluate_run, run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import read_experiment

__all__ = [
    "Embeddings",
    "ExperimentSettings",
    "Run",
    "embed",
    "evaluate_run",
    "load_run",
    "read_experiment",
    "run_experiment",
]
