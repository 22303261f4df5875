"""TEST MATERIAL: what a search for steps leaves in a run folder, with invented numbers."""

import json

import numpy as np

METRICS = ("step_recall", "step_recall_pooled", "step_recall_unordered", "frame_accuracy", "iou", "iod", "temporal_iou",
           "recall_at_iou_0.5", "mean_average_precision")  # fmt: skip
HOSTILE = "<script>alert(1)</script> $x^2$"


def search_steps(study):
    """Add what the task actions leaves to invented runs; the recall of a run is 0.5 and a tenth for every pair."""
    for folder in sorted(path for path in study.iterdir() if (path / "results.json").exists()):
        told = json.loads((folder / "results.json").read_text())
        own = {key: told["rows"][0][key] for key in ("experiment", "seed")}
        value = 0.5 + 0.1 * (own["experiment"] == "V+A+T")
        for subject in ("text->video", "text->video+audio", "text->video:cook"):
            row = {**own, "task": "actions", "subject": subject, "metric": "videos_scored", "value": 7.0}
            told["rows"].append({**row, "low": None, "high": None})
            for metric in METRICS:
                levels = {"": value, "chance_": 0.25, "uniform_": 0.75, "untrained_": 0.3}
                for level, number in levels.items():
                    row = {**own, "task": "actions", "subject": subject, "metric": level + metric, "value": number}
                    told["rows"].append({**row, "low": None if level else number - 0.1, "high": None if level else 0.8})
        (folder / "results.json").write_text(json.dumps(told))
        scores = np.zeros((8, 2))
        scores[1, 0] = scores[6, 1] = 1.0
        example = {
            "id": "video1", "subject": "text->video", "hop_s": 0.5, "steps": [HOSTILE, "pour tea"],
            "scores": scores.tolist(), "spans": [[0, 0.0, 1.0], [1, 1.0, 2.0]], "hit": [True, False],
            "found_s": [0.75, 3.25],
        }  # fmt: skip
        (folder / "actions.json").write_text(
            json.dumps(
                {"hop_s": 0.5, "not_scored": {"text->video": {"no annotated step": ["video9"]}}, "examples": [example]}
            )
        )
        with (folder / "settings.yaml").open("a") as file:
            file.write("evaluation: {tasks: [retrieval, actions]}\n")
    return study
