"""The answer of a study of missing modalities, from results that are written down here."""

import pandas as pd

from mcnlab.reporting.answer import answer
from mcnlab.reporting.missing import shares_of
from mcnlab.reporting.recipe import recipe_of
from mcnlab.reporting.summary import RunRow, StudySummary

SHARES = {"half": 0.5, "whole": 0.0, "none": 1.0}


def summary(tmp_path):
    """Three experiments and a control, two seeds each."""
    stages, rows, recipes, runs = [{"modalities": ["video", "audio", "text"]}], [], {}, []
    for name in (*SHARES, "control"):
        share = SHARES.get(name, 0.0)
        data = {"missing": {"text": share} if share else {}, "shuffle": ["text"] if name == "control" else []}
        recipes[name] = recipe_of({"stages": stages, "data": data, "terms": {"contrast": {}}})
        for seed in (0, 1):
            for subject, value in (("text->video", 0.4 * (1 - share) + 0.01 * seed), ("video->audio", 0.3)):
                for metric, number in (("recall_at_1", value), ("chance_at_1", 0.002)):
                    rows.append((name, seed, "retrieval", subject, metric, number, None, None))
            runs.append(RunRow(name, seed, "finished", "", tmp_path, 1, True, 1.0, 1.0, 1.0))
    columns = ["experiment", "seed", "task", "subject", "metric", "value", "low", "high"]
    results = pd.DataFrame(rows, columns=columns)
    return StudySummary("", "", tuple(recipes), recipes, tuple(runs), results, {}, "whole", {}, {})


def test_shares_stand_in_rising_order_and_the_control_is_not_among_them(tmp_path):
    assert shares_of(summary(tmp_path)) == {"text": {0.0: "whole", 0.5: "half", 1.0: "none"}}


def test_the_answer_gives_both_ends_every_share_and_chance(tmp_path):
    part = answer(summary(tmp_path))[0]
    assert part.heading == "What missing text costs"
    assert "From 0% to 100% of the training clips without text" in part.lead
    assert "T→V from 0.41 ± 0.06 to 0.01 ± 0.06" in part.lead
    assert "by share of clips without text: 0% 0.41 ± 0.06, 50% 0.21 ± 0.06, 100% 0.01 ± 0.06" in part.points[0]
    assert "(chance 0.002)" in part.points[0]


def test_the_control_says_what_was_shuffled(tmp_path):
    assert any("With shuffled text, recall at 1 is T→V" in part.lead for part in answer(summary(tmp_path)))
