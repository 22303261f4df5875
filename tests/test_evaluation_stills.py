"""Classifying pictures by a linear probe: accuracy, chance, and who is behind whom."""

import numpy as np
import pytest

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.stills import SplitFeatures, evaluate_stills

CLASSES = np.array(["ball", "ball", "box", None] * 15, dtype=object)


def telling(classes):
    """Features that name the class."""
    return np.array([[1.0 if value == "ball" else -1.0, 5.0] for value in classes])


def silent(classes):
    """Features that say nothing."""
    return np.zeros((len(classes), 2))


def found(**more):
    features = {
        "static": SplitFeatures(telling(CLASSES), telling(CLASSES)),
        "naive": SplitFeatures(silent(CLASSES), silent(CLASSES)),
    }
    rows = evaluate_stills(features, CLASSES, CLASSES, **more)
    return {(row.subject, row.metric): row for row in rows}


def test_features_that_name_the_class_are_right_and_silent_ones_at_chance():
    rows = found(reference=("static",))
    assert rows["static", "accuracy"].value == 1.0
    assert rows["naive", "accuracy"].value == pytest.approx(2 / 3)
    assert rows["naive", "chance"].value == pytest.approx(2 / 3)  # clips without a class are left out
    assert rows["naive", "behind_static"].value == pytest.approx(1 / 3)
    assert ("static", "behind_static") not in rows
    assert rows["naive", "accuracy"].low < 2 / 3 < rows["naive", "accuracy"].high


def test_another_column_is_named_and_the_untrained_network_stands_beside():
    before = {"static": SplitFeatures(silent(CLASSES), silent(CLASSES))}
    rows = found(column="color", untrained=before)
    assert rows["static:color", "accuracy"].value == 1.0
    assert rows["static:color", "untrained"].value == pytest.approx(2 / 3)


def test_the_probe_is_asked_about_clips_that_it_did_not_see():
    turned = SplitFeatures(telling(CLASSES), -telling(CLASSES))
    assert evaluate_stills({"static": turned}, CLASSES, CLASSES)[0].value == 0.0


@pytest.mark.parametrize(
    ("train", "asked", "error", "said"),
    [
        (
            np.array(["a"] * 60, dtype=object),
            CLASSES,
            DataError,
            "label: the task stills needs two classes or more among",
        ),
        (np.array(["a", "b"] * 30, dtype=object), CLASSES, DataError, "no class of the held-out clips"),
        (CLASSES[:8], CLASSES, ShapeError, "60 and 60 rows of features, but 8 and 60 classes"),
    ],
)
def test_classes_that_cannot_be_scored_are_refused(train, asked, error, said):
    with pytest.raises(error, match=said):
        evaluate_stills({"static": SplitFeatures(telling(CLASSES), telling(CLASSES))}, train, asked)
