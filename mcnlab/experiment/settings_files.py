"""Settings from a YAML file: read, checked, and freed from where one stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcnlab.config import read_yaml, with_overrides
from mcnlab.data.shards import file_checksum
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.recipes import with_recipes
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.term_settings import (
    TermSettings,
)


def read_experiment(path: Path, *, overrides: list[str] | None = None) -> ExperimentSettings:
    """The experiment that a YAML file describes.

    Args:
        path: the file.
        overrides: flags such as `training.epochs=3`.

    Returns:
        Validated settings; relative store and weights are taken from the file's folder.

    Raises:
        ConfigError: a setting is missing, unknown, of the wrong type or out of range.
        DataError: the file of weights is missing, or not the one that the settings mean.
    """
    values = read_yaml(path)
    if "study" in values and "experiments" in values:
        raise ConfigError(f"{path}: this is a study, not an experiment; type: mcnlab study {path}")
    values = with_overrides(values, overrides or [])
    return with_store_beside(ExperimentSettings.parse(values, source=str(path)), path.parent)


def with_store_beside(settings: ExperimentSettings, folder: Path) -> ExperimentSettings:
    """Settings whose paths, of stores and weights, no longer depend on where one stands."""
    store, weights = settings.data.store, settings.model.weights
    mixed = settings.data.stores and {
        name: share.model_copy(update={"store": (folder / share.store).resolve()})
        for name, share in settings.data.stores.items()
    }
    data = settings.data.model_copy(update={"store": store and (folder / store).resolve(), "stores": mixed})
    others = {name: (folder / path).resolve() for name, path in settings.evaluation.also.items()}
    network = settings.evaluation.network and (folder / settings.evaluation.network).resolve()
    evaluation = settings.evaluation.model_copy(update={"also": others, "network": network})
    settings = settings.model_copy(update={"data": data, "evaluation": evaluation})
    settings = _with_terms_beside(settings, folder)
    if weights is not None:
        model = settings.model.model_copy(update={"weights": (folder / weights).resolve()})
        settings = with_checksum_of_weights(settings.model_copy(update={"model": model}))
    return settings


def _with_terms_beside(settings: ExperimentSettings, folder: Path) -> ExperimentSettings:
    """Settings whose terms name other runs and networks by whole paths."""

    def beside(recipe: Mapping[str, Any] | str) -> Any:
        if isinstance(recipe, str):
            return (folder / recipe).resolve()
        return with_store_beside(ExperimentSettings.model_validate(recipe), folder).model_dump(mode="json")

    terms = with_recipes(settings.terms.model_dump(), beside)
    if terms["guide"] is not None and terms["guide"]["network"] is not None:
        terms["guide"] = {**terms["guide"], "network": (folder / terms["guide"]["network"]).resolve()}
    return settings.model_copy(update={"terms": TermSettings.model_validate(terms)})


def with_checksum_of_weights(settings: ExperimentSettings) -> ExperimentSettings:
    """Settings that say which content the file of weights must have.

    Args:
        settings: the experiment.

    Returns:
        The same where no weights are named; else with their checksum. A file that has gone is no error where its
        checksum is known already: a finished run can still be opened.

    Raises:
        DataError: the file is missing, or has another content than the settings say.
    """
    weights, known = settings.model.weights, settings.model.weights_sha256
    if weights is None or (known is not None and not weights.exists()):
        return settings
    if not weights.is_file():
        raise DataError(f"model.weights: {weights}: no such file")
    found = file_checksum(weights)
    if known not in (None, found):
        raise DataError(f"model.weights: {weights}: its content has changed (sha256 {found}, the settings say {known})")
    model = settings.model.model_copy(update={"weights_sha256": found})
    return settings.model_copy(update={"model": model})
