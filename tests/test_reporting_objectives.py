"""What a report says of contrast against prediction: the margin by hand, its interval, and when it says nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcnlab.metrics.statistics import mean_interval
from mcnlab.reporting.answer import answer
from mcnlab.reporting.objectives import Sides, margin, objectives_in_words, sides
from mcnlab.reporting.recipe import PREDICTION, Recipe, recipe_of
from mcnlab.reporting.summary import Column, RunRow, StudySummary

ALL = ("va", "vt", "at")
RECIPES = {
    "MMS": Recipe(ALL, stages=("VAT",)),
    "NCE": Recipe(ALL, stages=("VAT",), loss="info_nce"),
    "prediction": Recipe(ALL, terms=("predict",), stages=("VAT",)),
    "other graph": Recipe(ALL, graph="disjoint", stages=("VAT",)),
}
KEPT = {
    "MMS": (0.60, 0.64, 0.62),
    "NCE": (0.70, 0.70, 0.73),
    "prediction": (0.55, 0.59, 0.60),
    "other graph": (0.9,) * 3,
}
"""Mean retention of `va` in video, by seed."""


def row(experiment, seed, task, subject, metric, value):
    return {"experiment": experiment, "seed": seed, "task": task, "subject": subject, "metric": metric, "value": value}


def study(*, names=tuple(RECIPES), seeds=3):
    rows = []
    for name in names:
        for seed in range(seeds):
            kept = KEPT[name][seed]
            rows += [
                row(name, seed, "retention", "video:va", "score", kept),
                row(name, seed, "retention", "audio:va", "score", kept + 0.1),
                row(name, seed, "retention", "video:v", "score", 0.2),
                row(name, seed, "retrieval", "text->video", "recall_at_1", 0.01 if name == "prediction" else 0.3),
                row(name, seed, "retrieval", "text->video", "chance_at_1", 0.01),
            ]
    results = pd.DataFrame(rows).assign(low=np.nan, high=np.nan)
    done = ("finished", "", Path("none"), 1, True, 1.0, 1.0, 1.0)
    runs = tuple(RunRow(name, seed, *done) for name in names for seed in range(seeds))
    recipes = {name: RECIPES[name] for name in names}
    return StudySummary("t", "q", tuple(names), recipes, runs, results, {}, names[0], {}, {})


def test_only_experiments_that_differ_in_nothing_else_are_held_against_each_other():
    assert sides(study()) == Sides(("MMS", "NCE"), ("prediction",))
    assert sides(study(names=("MMS", "NCE"))) is None
    assert sides(study(names=("prediction", "other graph"))) is None


def test_the_margin_is_the_mean_of_differences_over_seeds():
    column = Column("", "retention", ("video:va", "audio:va"), "score")
    found = margin(study(), column, Sides(("MMS", "NCE"), ("prediction",)))
    by_hand = mean_interval([0.65 - 0.55, 0.67 - 0.59, 0.675 - 0.60])
    assert found == pytest.approx(by_hand)
    assert found.low < found.value < found.high


def test_the_answer_says_the_margin_its_interval_and_what_prediction_cannot():
    heading, lead, points = objectives_in_words(study())
    assert heading == "Contrast against prediction"
    assert "2 contrastive objectives keep 0.72 on average and prediction 0.63" in lead
    assert "the margin of contrast is +0.085 (95 % interval +0.052 to +0.118), clear over 3 seeds" in lead
    assert points[0].startswith("Shared factors by objective: NCE 0.76 ± 0.04, MMS 0.67")
    assert any("Margin in private factors: +0.000" in point for point in points)
    assert "prediction 0.01 ± 0.00 (chance 0.010)" in points[-1]
    assert answer(study())[0].lead == lead


def test_a_margin_that_chance_could_give_is_called_so():
    shown = study(names=("MMS", "prediction"))
    shown.results.loc[lambda rows: (rows.experiment == "prediction") & (rows.seed == 1), "value"] += 0.2
    assert "which 3 seeds cannot tell from none" in objectives_in_words(shown)[1]
    assert "from one seed" in objectives_in_words(study(names=("MMS", "prediction"), seeds=1))[1]


def test_a_recipe_names_the_loss_and_the_kind():
    stages = [{"modalities": ["video", "text"]}]
    bank = recipe_of({"stages": stages, "terms": {"contrast": {"loss": "memory_bank"}}})
    assert bank.in_words == "VT · contrast (memory bank)"
    assert recipe_of({"stages": stages, "terms": {"contrast": None, "predict": {}}}).family == PREDICTION
    assert recipe_of({"stages": stages, "terms": {"contrast": {}}}).in_words == "VT · contrast"
