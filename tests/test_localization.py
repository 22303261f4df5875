"""Sounds looked for in pictures without negatives: losses, looks, the task, boxes of real media, a tiny run."""

import csv
import html
import io
import itertools
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mcnlab.batch import Batch, Outputs
from mcnlab.data.augment import AugmentedClips, Looks, varied
from mcnlab.data.boxes import Box
from mcnlab.data.importers.boxes import read_box_files
from mcnlab.data.importers.media import import_media
from mcnlab.data.loading import ClipWindow
from mcnlab.data.recording_sound import sound_of_recording
from mcnlab.data.scenes import ComposedClips, SceneSettings
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.evaluation.localization import evaluate_localization, truths_of
from mcnlab.experiment.heat import of_other_recordings
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.losses import negative_cosine
from mcnlab.losses.siamese import spread
from mcnlab.models.graph import build_graph
from mcnlab.models.localization.sound_localizer import LocalizerSizes, SoundLocalizer
from mcnlab.models.localization.tied_coding import tied_energies
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.reporting.clip_player import overlay, player, recordings_with_heat
from mcnlab.reporting.export import export_html
from mcnlab.reporting.heat_figures import localization_answer, localization_figure, localization_pictures
from mcnlab.reporting.notebooks import settings_path
from mcnlab.reporting.render import content_hash
from mcnlab.reporting.summary import summarize
from mcnlab.training.localize_term import LocalizeTerm
from mcnlab.training.terms import Active

SCENES = SceneSettings(segments=1, frames_per_segment=1, size_px=24, train_scenes=6)
ACTIVE = Active(("video", "audio"), ("va",), 0)


def clips():
    return ComposedClips(SCENES, window=ClipWindow(audio_frames=32, video_frames=1))


# losses


def test_predictions_that_point_the_way_of_their_targets_cost_minus_one():
    x = torch.tensor([[1.0, 2.0], [0.5, -3.0]])
    assert negative_cosine(2 * x, 5 * x).item() == pytest.approx(-1, abs=1e-6)
    assert negative_cosine(x, -x).item() == pytest.approx(1, abs=1e-6)
    assert negative_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 4.0]])).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_target_and_predictions_turn_towards_it():
    prediction, target = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[1.0, 1.0]], requires_grad=True)
    negative_cosine(prediction, target).backward()
    assert target.grad is None
    assert prediction.grad[0, 1] < 0  # a step against the gradient adds to the second component


def test_predictions_without_their_targets_are_refused():
    with pytest.raises(ShapeError, match=r"predictions \(2, 3\) but targets \(1, 3\)"):
        negative_cosine(torch.zeros(2, 3), torch.zeros(1, 3))


def test_the_spread_is_zero_where_all_is_one_and_one_where_it_points_anywhere():
    assert spread(torch.ones(8, 4)).item() == pytest.approx(0, abs=1e-6)
    random = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert spread(random).item() == pytest.approx(1, abs=0.02)


# predictive coding as mathematics


def tied_case(seed):
    draw = torch.Generator().manual_seed(seed)
    sizes = [12, 8, 6, 5]
    weights = [
        torch.randn(above, below, generator=draw, dtype=torch.float64) / 4 for below, above in itertools.pairwise(sizes)
    ]
    picture, sound = (torch.randn(3, size, generator=draw, dtype=torch.float64) for size in (12, 5))
    return picture, sound, weights


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_energy_of_tied_linear_coding_never_rises(seed):
    picture, sound, weights = tied_case(seed)
    largest = max(float(torch.linalg.matrix_norm(weight, 2)) ** 2 for weight in weights)
    energies = tied_energies(picture, sound, weights, rate=1.9 / (1 + largest), rounds=40)
    assert (energies.diff(dim=0) <= 1e-12).all()
    assert (energies[-1] < 0.9 * energies[0]).all()


def test_tied_coding_comes_to_the_least_energy():
    picture, sound, weights = tied_case(0)
    found = tied_energies(picture, sound, weights, rate=0.5, rounds=400)[-1]
    for row in range(3):  # all levels at once, by least squares
        first, second, third = weights
        eye = [torch.eye(size, dtype=torch.float64) for size in (12, 8, 6)]
        system = torch.zeros(12 + 8 + 6 + 5, 12 + 8 + 6, dtype=torch.float64)
        system[:12, :12] = eye[0]
        system[12:20, :12], system[12:20, 12:20] = -first, eye[1]
        system[20:26, 12:20], system[20:26, 20:] = -second, eye[2]
        system[26:, 20:] = third
        wanted = torch.cat([picture[row], torch.zeros(14, dtype=torch.float64), sound[row]])
        levels = torch.linalg.lstsq(system, wanted[:, None]).solution
        least = ((system @ levels)[:, 0] - wanted).square().sum() / 2
        assert found[row].item() == pytest.approx(least.item(), rel=1e-6)


def test_too_large_a_rate_can_raise_the_energy_and_none_is_refused():
    picture, sound, weights = tied_case(0)
    energies = tied_energies(picture, sound, [3 * weight for weight in weights], rate=1.5, rounds=5)
    assert (energies.diff(dim=0) > 0).any()
    with pytest.raises(ConfigError, match="rate must be above 0, got 0"):
        tied_energies(picture, sound, weights, rate=0.0, rounds=1)


# looks


def test_looks_depend_on_the_epoch_and_the_place_alone():
    source = AugmentedClips(clips(), Looks())
    source.epoch((0, "stage", 3), batch=2)
    first = source.batch(np.array([2, 5]))
    source.epoch((0, "stage", 4), batch=2)
    source.batch(np.array([0]))
    source.epoch((0, "stage", 3), batch=4)
    again = source.batch(np.array([5]))
    assert first.inputs["video"].shape == (2, 2, 3, 24, 24)
    assert torch.equal(first.inputs["video"][1], again.inputs["video"][0])
    assert not torch.equal(first.inputs["video"][1, 0], first.inputs["video"][1, 1])
    assert first.lengths["video"].tolist() == [2, 2]
    assert torch.equal(first.inputs["audio"], clips_of_epoch(3, [2, 5]).inputs["audio"])


def clips_of_epoch(epoch, places):
    source = clips()
    source.epoch((0, "stage", epoch), batch=2)
    return source.batch(np.array(places))


def test_a_look_that_varies_nothing_is_the_picture_or_its_mirror_image():
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = torch.full((2, 7), 0.5)
    drawn[1, 3] = 0.1
    seen = varied(pictures, drawn, Looks(least_area=1.0, shade=0.4))
    torch.testing.assert_close(seen[0], pictures[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[1], pictures[1].flip(2), atol=1e-5, rtol=0)


def test_a_crop_shows_a_part_of_the_picture():
    picture = torch.zeros(1, 3, 8, 8)
    picture[:, :, :4, :4] = 0.8  # upper left quarter
    corner = torch.tensor([[0.0, 0.0, 0.0, 0.9, 0.5, 0.5, 0.5]])  # smallest crop, at the upper left
    seen = varied(picture, corner, Looks(least_area=0.25, shade=0.0))
    assert (seen[:, :, :6, :6] > 0.75).all()


# the localizer and its term


def batch_with(maps, sound):
    present = torch.ones(len(maps), dtype=torch.bool)
    outputs = Outputs({"audio": sound}, {}, {"video": present, "audio": present}, maps={"video": maps})
    return Batch({}, {}, {"video": present, "audio": present}, torch.arange(len(maps))), outputs


def model_with(rounds):
    """A model whose localizer takes maps of 4 channels and sounds of width 3."""
    widths = {"video": 3 * 24 * 24, "audio": 40}
    sizes = ModelSizes(widths, 8, 16, 1, 8, (3, 24, 24), video_width=8, video_backbone="conv2d")
    graph, localizer = build_graph("shared", tuple(widths), ("va",)), LocalizerSizes(4, 3, rounds, 16)
    return MultimodalModel(sizes, graph, faithful=False, decoders=False, seed=0, localizer=localizer)


def test_the_term_is_the_mean_of_both_directions_and_watches_collapse():
    torch.manual_seed(0)
    maps, sound, model = torch.randn(6, 2, 4, 6, 6), torch.randn(6, 3), model_with(None)
    found = LocalizeTerm(weight=1.0)(model, *batch_with(maps, sound), ACTIVE)
    (p1, z1, _), (p2, z2, _) = (model.localizer(maps[:, look], sound) for look in (0, 1))
    expected = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-6)
    assert found.parts["spread"].item() == pytest.approx((spread(z1).item() + spread(z2).item()) / 2, abs=1e-5)
    assert found.parts["error"].item() == 0


def test_training_on_prediction_errors_makes_them_fall():
    torch.manual_seed(0)
    maps, sound = torch.randn(12, 2, 4, 6, 6), torch.randn(12, 3)
    ends = {}
    for weight in (0.0, 1.0):
        model, term = model_with(2), LocalizeTerm(weight=1.0, error_weight=weight)
        optimizer = torch.optim.Adam(model.localizer.parameters(), 0.01)
        errors = []
        for _ in range(25):
            found = term(model, *batch_with(maps, sound), ACTIVE)
            optimizer.zero_grad()
            found.total.backward()
            optimizer.step()
            errors.append(found.parts["error"].item())
        ends[weight] = errors[-1]
    assert ends[1.0] < 0.8 * errors[0]
    assert ends[1.0] < ends[0.0]


def test_with_and_without_coding_the_other_parts_begin_alike():
    one, other = (SoundLocalizer(LocalizerSizes(4, 3, rounds, 16), seed=1) for rounds in (2, None))
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, one.get_parameter(name))


def test_the_term_wants_two_looks():
    with pytest.raises(ConfigError, match="expected 2 looks at every picture, got 1"):
        LocalizeTerm(weight=1.0)(model_with(None), *batch_with(torch.randn(2, 1, 4, 6, 6), torch.randn(2, 3)), ACTIVE)


def settings(**changes):
    values = {
        "experiment": "x",
        "data": {"scenes": {"size_px": 24}, "looks": 2},
        "model": {"video_backbone": "conv2d"},
        "terms": {"localize": {}},
        "stages": [{"epochs": 1, "modalities": ["video", "audio"]}],
    }
    return ExperimentSettings.parse(values | changes, source="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {}}, "needs model.video_backbone: conv2d"),
        ({"data": {"scenes": {}, "looks": 1}}, "needs data.looks: 2, but looks is 1"),
        ({"data": {"scenes": {}, "shade": 0.1}}, "shade belongs to looks"),
        ({"data": {"scenes": {}, "world": {}}}, "expected either world, scenes, kinds or store"),
        ({"data": {"world": {}, "sampling": "composed"}}, "composed needs scenes"),
        ({"stages": [{"epochs": 1, "modalities": ["video"]}]}, "the term localize needs video and audio"),
        (
            {"terms": {"contrast": {}}, "evaluation": {"tasks": ["localization"]}},
            "localization measures what terms.localize trains",
        ),
    ],
)
def test_what_localization_lacks_is_said_before_work_starts(changes, message):
    assert settings().terms.localize is not None
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


# the task


def truth_table(*boxes):
    columns = ["recording", "start_s", "end_s", "left", "top", "right", "bottom", "sounding", "annotator"]
    return pd.DataFrame(boxes, columns=columns)


def test_maps_are_held_against_the_boxes_of_what_sounds_at_their_time():
    table = truth_table(
        (0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5, True, 0),
        (0, 1.0, 2.0, 0.5, 0.5, 1.0, 1.0, True, 0),
        (0, 0.0, 2.0, 0.5, 0.0, 1.0, 0.5, False, 0),
        (1, 0.0, 2.0, 0.5, 0.0, 1.0, 0.5, False, 0),
    )
    truths = truths_of(table, np.array([0, 0, 1]), np.array([0.5, 1.5, 0.5]), (4, 4))
    assert truths.clips.tolist() == [0, 1]  # nothing sounds in recording 1
    assert truths.masks[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    right, wrong = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    right[0, 0, 0] = right[1, 1, 1] = 1
    wrong[:2, 0, 1] = 1
    rows = {row.metric: row.value for row in evaluate_localization({"": right, "untrained": wrong}, truths, seed=0)}
    assert rows["pointing"] == 1
    assert rows["pointing_untrained"] == rows["ciou_untrained"] == 0
    assert rows["ciou"] == 1
    assert rows["pointing_whole"] == 0.25  # what a random place reaches
    assert rows["mean_iou_whole"] == 0.25


def test_several_annotators_vote():
    table = truth_table((0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5, True, 0), (0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5, True, 1))
    masks = truths_of(table, np.array([0]), np.array([0.5]), (2, 2)).masks
    assert masks[0].tolist() == [[1, 0.5], [0, 0]]


def test_nothing_to_score_is_said():
    truths = truths_of(truth_table(), np.array([0]), np.array([0.5]), (2, 2))
    with pytest.raises(DataError, match="there are none"):
        evaluate_localization({"": np.zeros((1, 2, 2))}, truths, seed=0)


# boxes of real media


def written_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_boxes_of_own_media_stand_in_a_csv_and_go_into_the_store(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (8, 12, 16, 3), dtype=np.uint8))
    rows = [{"id": name, "recording": "r", "video": f"{name}.npy", "fps": 4, "split": "val"} for name in ("a", "b")]
    manifest = written_csv(tmp_path / "m.csv", rows)
    sides = {"left": 0.1, "top": 0.2, "right": 0.5, "bottom": 0.9}
    boxes = written_csv(
        tmp_path / "boxes.csv",
        [
            {"id": "b", **sides, "start": 0.5, "end": 1, "label": "dog", "sounding": "yes", "thing": 3},
            {"id": "a", **sides, "start": "", "end": "", "label": "", "sounding": "0", "thing": ""},
            {"id": "unknown", **sides, "start": "", "end": "", "label": "", "sounding": "", "thing": ""},
        ],
    )
    report = import_media(
        manifest, tmp_path / "store", video="frames", frame_size=(12, 16), color=True, frames_per_s=4.0, boxes=boxes
    )
    assert any("boxes of 1 ids that the manifest does not have" in note for note in report.notes)
    found, begins_s = open_store(tmp_path / "store").boxes, open_store(tmp_path / "store").clips()["start_s"].tolist()
    assert found[["start_s", "end_s", "sounding", "thing"]].to_numpy().tolist() == [
        [0.0, 2.0, False, 0],
        [begins_s[1] + 0.5, begins_s[1] + 1.0, True, 3],
    ]
    assert begins_s[1] >= 2.0  # the second clip stands after the first
    assert found["label"].isna().tolist() == [True, False]
    assert found["label"][1] == "dog"
    assert found[["left", "top", "right", "bottom"]].to_numpy().tolist() == [[0.1, 0.2, 0.5, 0.9]] * 2
    assert sound_of_recording(open_store(tmp_path / "store"), 0) is None


def test_vgg_ss_boxes_are_shares_of_the_frame(tmp_path):
    path = tmp_path / "vggss.json"
    path.write_text(
        json.dumps([{"file": "x_000010", "class": "dog barking", "bbox": [[0.1, 0, 0.5, 1.01], [0, 0, 1, 1]]}])
    )
    first, second = read_box_files(path)["x_000010"]
    assert first.placed(2.0, 10.0) == Box(2.0, 12.0, 0.1, 0.0, 0.5, 1.0, 0, "dog barking")
    assert second.box.thing == 1


def test_flickr_boxes_are_pixels_of_256_by_several_annotators(tmp_path):
    one = "<bbox><name>1</name><xmin>64</xmin><ymin>0</ymin><xmax>128</xmax><ymax>256</ymax></bbox>"
    (tmp_path / "123.xml").write_text(f"<annotation><object>{one}</object><object>{one}</object></annotation>")
    found = read_box_files(tmp_path)["123"]
    assert [one.box.annotator for one in found] == [0, 1]
    assert found[0].placed(0.0, 10.0) == Box(0.0, 10.0, 0.25, 0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b.csv", "id,left,top,right\n", "lacks the column 'bottom'"),
        ("b.csv", "id,left,top,right,bottom,size\n", "unknown column 'size'"),
        ("b.csv", "id,left,top,right,bottom\na,0,0,200,1\n", "line 2: sides .* outside of the frame"),
        ("b.csv", "id,left,top,right,bottom\na,0.5,0,0.4,1\n", "line 2: sides .* left < right"),
        ("b.csv", "id,left,top,right,bottom\na,x,0,0.4,1\n", "line 2: left must be a number, got 'x'"),
        ("b.csv", "id,left,top,right,bottom,sounding\na,0,0,1,1,maybe\n", "sounding must be 1 or 0, got 'maybe'"),
        ("b.csv", "id,left,top,right,bottom,start,end\na,0,0,1,1,2,1\n", "line 2: from 2.0 to 1.0 s"),
        ("b.json", "{}", "expected a list of entries"),
        ("b.json", '[{"file": "a", "bbox": [[1, 2]]}]', r"entry 0 \(a\): bbox must be"),
        ("b.json", "[", "not readable JSON"),
    ],
)
def test_files_of_boxes_that_cannot_be_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_box_files(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><a/>', "definitions of its own"),
        ("<a><bbox><x>1</x></bbox></a>", "box 0 has 1 numbers"),
        ("<a/>", "holds no element bbox"),
        ("<a>", "not readable XML"),
    ],
)
def test_xml_of_boxes_that_cannot_be_is_refused(tmp_path, text, message):
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_box_files(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_box_files(tmp_path / "other")


def test_a_swapped_sound_is_that_of_another_recording():
    recordings = np.array([4, 4, 7, 7, 7, 9, 9, 9])
    others = of_other_recordings(recordings)
    assert sorted(others.tolist()) == list(range(8))
    assert (recordings[others] != recordings).all()
    assert of_other_recordings(np.array([1, 1])).tolist() == [1, 0]
    assert of_other_recordings(np.array([1])).tolist() == [0]


# a tiny run, its report and its player


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    run_experiment(settings_path("studies/tiny_scenes.yaml"), folder / "runs" / "tiny-s0", stores=folder / "stores")
    return folder / "runs"


def test_a_tiny_run_measures_heat_maps_and_keeps_recordings(tiny):
    run = load_run(tiny / "tiny-s0")
    rows = run.results().set_index("metric")["value"]
    known = {"pointing", "ciou", "auc", "mean_iou"}
    assert {f"{name}{end}" for name in known for end in ("", "_untrained", "_swapped", "_center", "_whole")} <= set(
        rows.index
    )
    assert 0.05 < rows["pointing_whole"] < 0.15  # the share of the picture that a thing takes
    log = run.metrics()
    assert {"term.localize", "term.localize.spread", "term.localize.error"} <= set(log.columns)
    (kept, *_) = recordings_with_heat(run.folder)
    assert len(kept["pictures"]) == len(kept["heat"]) == len(kept["boxes"]) == 6
    assert bytes(kept["wav"]).startswith(b"RIFF")


def test_towers_rest_while_places_are_learned_and_the_localizer_rests_before(tiny):
    log = load_run(tiny / "tiny-s0").metrics()
    first, second = log[log["stage"].str.startswith("1:")], log[log["stage"].str.startswith("2:")]
    assert first["term.classify"].notna().all()
    assert first["term.localize"].isna().all()
    assert second["term.classify"].isna().all()


def test_the_player_holds_all_that_it_shows(tiny):
    (kept, *_) = recordings_with_heat(load_run(tiny / "tiny-s0").folder)
    page = player(kept | {"recording": "<b>x</b>"})
    assert "<b>x</b>" not in page
    facts = json.loads(html.unescape(re.search(r'data-clip="([^"]*)"', page)[1]))
    assert len(facts["pictures"]) == len(facts["heat"]) == len(facts["peaks"]) == 6
    assert max(facts["peaks"]) == pytest.approx(1)
    assert any(box[5] for frame in facts["boxes"] for box in frame)
    assert "<audio" in page
    assert re.search(r'(src|href)="(?!data:)', page) is None
    assert "<audio" not in player(kept | {"wav": None})


def test_the_page_of_a_notebook_lets_its_players_run(tmp_path):
    one = {
        "recording": "r",
        "times_s": [0.5],
        "shown_s": 1.0,
        "pictures": [b"x"],
        "heat": [[[0.0, 1.0]]],
        "boxes": [[]],
    }
    output = nbformat.v4.new_output("display_data", {"text/html": player(one)})
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])]), tmp_path / "n.ipynb"
    )
    text = export_html(tmp_path / "n.ipynb", tmp_path / "n.html").read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    (script,) = re.findall(r"<script>(\(function.*?)</script>", text, flags=re.DOTALL)
    assert content_hash(script.encode()) in policy


def test_a_heat_map_is_dark_where_it_is_low_clear_in_the_middle_and_red_at_its_top():
    picture = np.asarray(open_png(overlay(np.array([[0.0, 0.5], [0.5, 1.0]]), low=0.0, high=1.0, size_px=8)))
    assert picture[0, 0].tolist() == [10, 12, 18, 150]
    assert picture[0, -1, 3] == 0
    assert picture[-1, -1].tolist() == [214, 32, 32, 170]


def open_png(content):
    return Image.open(io.BytesIO(content))


def test_the_report_says_and_shows_where_sounds_come_from(tiny):
    study = summarize(tiny)
    lead, points = localization_answer(study)[1:]
    assert "no clip was compared with another" in lead
    assert "The towers of tiny scenes had first learned from labels" in lead
    assert "the peak lies in what sounds: trained" in points[0]
    figure = localization_figure(study)
    assert {trace.name for trace in figure.plot.data} >= {"trained", "before training", "sound of another clip"}
    pictures = localization_pictures(study)
    assert len(pictures.plot.layout.images) == 5


def test_maps_that_predictive_coding_cannot_halve_are_refused_before_training(tmp_path):
    scenes = {"size_px": 32, "segments": 1, "train_scenes": 2, "val_scenes": 0, "test_scenes": 2}
    with pytest.raises(DataError, match="32 x 32 pixels give maps of 8 x 8 cells"):
        run_experiment(settings(data={"scenes": scenes, "looks": 2}), tmp_path / "run", stores=tmp_path / "stores")
    assert not (tmp_path / "run").exists()
