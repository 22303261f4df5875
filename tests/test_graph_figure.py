"""Graphs as a reader sees them: the small picture, its words, and the answer of a study that compares graphs."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import yaml

from mcnlab.errors import DataError
from mcnlab.experiment.build import model_graph
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.reporting.answer import answer
from mcnlab.reporting.asked import compared_embeddings
from mcnlab.reporting.graph_answer import graphs_in_words
from mcnlab.reporting.graph_figure import graph_figure, graph_of_settings, study_graphs
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.summary import summarize
from tests.fake_study import FakeExperiment, write_fake_study
from tests.test_graph import WRITTEN

SVG = "{http://www.w3.org/2000/svg}"
STAGES = [{"modalities": ["video", "audio", "text"]}]
PAIRS = ("va", "vt")
GRAPHS = ("shared", "disjoint", "fac")


def settings(graph, **model):
    return {"graph": graph, "pairs": list(PAIRS), "stages": STAGES, "model": {"dim": 16, **model}}


def texts(figure):
    return [one.text for one in ElementTree.fromstring(figure.svg).iter(f"{SVG}text")]


def test_the_picture_shows_spaces_members_and_widths():
    figure = graph_figure(settings("fac", coarse_dim=6))
    assert texts(figure) == ["va · 16 wide", "V", "video", "A", "audio", "vat · 6 wide", "V", "video", "A", "audio",
                             "T", "text"]  # fmt: skip
    root = ElementTree.fromstring(figure.svg)
    dashed = [one for one in root.iter(f"{SVG}circle") if one.get("stroke-dasharray")]
    assert len(dashed) == 2, "video and audio come into the coarse space through the map"
    assert int(root.get("width")) <= 300
    assert root.get("aria-label").endswith(figure.alt)
    assert {one.get("fill") for one in root.iter(f"{SVG}text")} == {"currentColor"}, "black would vanish in the dark"


def test_everything_stays_inside_of_the_picture():
    spaces = {"joint": {"members": ["video", "audio", "text"]}}
    figure = graph_figure(settings({"name": "<b>", "spaces": spaces, "pairs": {"va": "joint", "vt": "joint"}}))
    assert "&lt;b&gt;" in figure.svg
    root = ElementTree.fromstring(figure.svg)
    _, _, width, height = (float(number) for number in root.get("viewBox").split())
    for one in root.iter(f"{SVG}circle"):
        assert 14 <= float(one.get("cx")) <= width - 14
        assert 14 <= float(one.get("cy")) <= height - 14


def test_the_words_say_who_meets_without_being_compared():
    assert graph_figure(settings("fac")).alt.endswith("Audio and text meet in vat, uncompared in training.")
    assert graph_figure(settings("disjoint")).alt.endswith("Audio and text have no common space.")


@pytest.mark.parametrize("graph", [*GRAPHS, WRITTEN])
def test_settings_alone_give_the_graph_that_is_trained(graph, tmp_path):
    values = {"experiment": "test", "data": "world", "stages": "AV_T", "graph": graph, "pairs": list(PAIRS)}
    parsed = ExperimentSettings.parse(values, source="e.yaml")
    trained = model_graph(parsed, ("video", "audio", "text"))
    assert graph_of_settings(yaml.safe_load(yaml.safe_dump(parsed.model_dump(mode="json")))) == trained


def test_what_compares_nothing_has_no_picture():
    assert graph_figure({"stages": []}) is None


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Invented runs of three graphs; text is found in audio wherever a space joins them."""
    folder = tmp_path_factory.mktemp("graphs")
    write_fake_study(folder, experiments=tuple(FakeExperiment(name, PAIRS, graph=name) for name in GRAPHS))
    for run in sorted(folder.iterdir()):
        path = run / "settings.yaml"
        values = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**values, "pairs": list(PAIRS)}))
    return summarize(folder, title="Graphs", order=GRAPHS)


def test_a_study_of_graphs_says_who_has_no_common_space(study):
    lead, points = graphs_in_words(study)
    assert "disjoint beside shared: V→A recall at 1" in lead
    assert "fac beside shared" in lead
    assert "T→A, never trained as a pair" in lead
    asked = [point for point in points if point.startswith("T→A")]
    assert [point.split(":")[0] for point in asked] == [
        "T→A recall at 1, never trained",
        "T→A class of the first clip right, never trained",
    ]
    for point in asked:
        assert point.count("(no common space)") == 1
        before = point.split(" (no common space)")[0]
        assert before.rsplit("disjoint", 1)[1].count(",") == 0, "it is the disjoint graph that has none"
        assert "; chance" in point
    assert answer(study)[0].heading == "Where modalities meet"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((0.10, 0.11, 0.12), "V→A recall at 1 is higher in equal seeds by 0.110 ± 0.025, though the intervals overlap"),
        ((-0.10, -0.11, -0.12), "V→A recall at 1 is lower in equal seeds by 0.110 ± 0.025, though the intervals"),
        ((0.10, -0.10, 0.12), "V→A recall at 1 is not clearly different (0."),
        ((0.60, 0.61, 0.62), "V→A recall at 1 is higher, intervals apart (0."),
    ],
)
def test_graphs_are_compared_in_equal_seeds_where_seeds_differ_more_than_graphs(tmp_path, more, said):
    graphs = tuple(FakeExperiment(name, PAIRS, graph=name) for name in ("shared", "fac"))
    write_fake_study(tmp_path, experiments=graphs, seeds=(0, 1, 2))
    for run in sorted(tmp_path.iterdir()):
        settings = yaml.safe_load((run / "settings.yaml").read_text())
        (run / "settings.yaml").write_text(yaml.safe_dump({**settings, "pairs": list(PAIRS)}))
        results = json.loads((run / "results.json").read_text())
        for row in results["rows"]:
            if (row["subject"], row["metric"]) == ("video->audio", "recall_at_1"):
                row["value"] = (0.1, 0.2, 0.3)[row["seed"]] + (more[row["seed"]] if row["experiment"] == "fac" else 0)
        (run / "results.json").write_text(json.dumps(results))
    assert said in graphs_in_words(summarize(tmp_path, title="Graphs", order=("shared", "fac")))[0]


def test_a_study_of_one_graph_says_nothing_of_graphs(tmp_path):
    write_fake_study(tmp_path, experiments=(FakeExperiment("one", PAIRS), FakeExperiment("two", ("vt",))), seeds=(0,))
    assert graphs_in_words(summarize(tmp_path)) == ("", ())


def test_each_graph_is_drawn_once_on_the_page(study):
    assert [names for _, names in study_graphs(study)] == [("shared",), ("disjoint",), ("fac",)]
    page = index_page(study)
    assert page.count("<svg") == 3
    assert "Space vat: video and text compared" in page


def test_a_run_that_has_not_begun_hides_no_graph(tmp_path):
    write_fake_study(tmp_path, experiments=(FakeExperiment("one", PAIRS),), seeds=(0, 1))
    waiting = tmp_path / "one-s1"
    for path in waiting.iterdir():
        path.unlink()
    (waiting / "status.json").write_text('{"state": "pending"}')
    summary = summarize(tmp_path)
    assert [row.state for row in summary.runs] == ["finished", "pending"]
    assert summary.recipes["one"].pairs == ("va", "vt", "at")
    assert [names for _, names in study_graphs(summary)] == [("one",)]


def test_a_modality_of_one_space_is_compared_where_the_graph_lets_it_meet_the_other():
    x = np.eye(3, dtype=np.float32)
    fac = {"video": np.zeros((3, 7)), "video@va": np.zeros((3, 5)), "video@vat": x, "text": 2 * x}
    for direction, expected in (("text->video", (2 * x, x)), ("video->text", (x, 2 * x))):
        for found, wanted in zip(compared_embeddings(fac, direction, space="vat"), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(DataError, match="text->video: no space where both were embedded"):
        compared_embeddings(fac, "text->video", space="va")
