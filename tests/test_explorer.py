"""The explorer without a browser: what is set in Python, or told by the page, drives everything."""

import shutil
import threading

import numpy as np
import pandas as pd
import pytest

from mcnlab.errors import CancelledError, DataError
from mcnlab.experiment.course import checkpoint_embeddings
from mcnlab.experiment.explorer import clip_media
from mcnlab.reporting.addresses import picture_address, sound_address
from mcnlab.reporting.explorer import Explorer
from mcnlab.reporting.explorer.ask import SENTENCE
from mcnlab.reporting.explorer.colors import CLUSTER, MODALITY, NONE, RANK, point_colors
from mcnlab.reporting.explorer.compare import seen_differently
from mcnlab.reporting.explorer.data import ALL_MODALITIES, open_runs
from mcnlab.reporting.explorer.jobs import Jobs
from mcnlab.reporting.layout import MapSettings
from mcnlab.reporting.projection import aligned_maps
from mcnlab.runs import RunFolder
from tests.fake_study import DEFAULT, HOSTILE_CAPTION, FakeExperiment, write_fake_study

CLIPS = 40
HOSTILE = FakeExperiment("V+A+T <img src=x onerror=alert(1)>", DEFAULT[3].pairs)


def few_rounds(embeddings, *, ids, cache, progress, cancelled):
    """A layout for the eye of nobody, in this process."""
    return aligned_maps(embeddings, ids=ids, settings=MapSettings(epochs=10), cache=cache)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "runs"
    return write_fake_study(folder, experiments=(HOSTILE, DEFAULT[4], DEFAULT[5]), seeds=(0,), clips=CLIPS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("maps")


def explorer_of(study, cache, **parts):
    return Explorer(study, patient=False, lay_out=few_rounds, cache=cache, **parts)


@pytest.fixture
def explorer(study, cache):
    return explorer_of(study, cache)


def told(explorer, buffers=(), **content):
    """What the page says."""
    explorer.maps._handle_custom_msg(content, list(buffers))


def answers(explorer):
    """What the page is sent."""
    sent = []
    explorer.maps.send = lambda content, buffers=None: sent.append(content)
    return sent


def test_both_maps_are_there_with_how_far_to_trust_them(explorer):
    assert explorer.left.run.value != explorer.right.run.value
    assert explorer.maps.places("left").shape == explorer.maps.places("right").shape == (CLIPS, 2)
    assert explorer.left.trust.startswith("Trustworthiness 0.")
    assert "nearest neighbors" in explorer.right.trust
    assert explorer.jobs.words == ""


def test_another_embedding_run_and_color_change_one_side(explorer):
    right = explorer.maps.places_right
    explorer.left.run.value = "MCN, seed 0"
    explorer.left.embedding.value = ALL_MODALITIES
    explorer.left.color.value = MODALITY
    assert explorer.maps.places("left").shape == (3 * CLIPS, 2)
    assert explorer.maps.legend_left["entries"] == ["video", "audio", "text"]
    assert len(explorer.maps.places_right) == len(right)
    assert explorer.maps.legend_right["title"] == "label"


def test_the_same_clips_are_held_together_whatever_is_shown(study):
    data = open_runs(study)
    video, text = (data.panel("MCN, seed 0", name) for name in ("video", "text"))
    every = data.panel("MCN, seed 0", ALL_MODALITIES)
    assert video.ids(text) == text.ids(video) == [str(clip) for clip in range(CLIPS)]
    assert every.ids(text)[-CLIPS:] == text.ids(every)
    assert not set(every.ids(text)[:CLIPS]) & set(text.ids(every))
    assert len(set(every.ids(every))) == 3 * CLIPS


def test_a_color_that_is_chosen_while_maps_are_laid_out_is_not_lost(study, cache):
    explorer = explorer_of(study, cache)

    def lay_out(embeddings, **rest):
        explorer.right.color.value = "factor:vt.color"
        return few_rounds(embeddings, **rest)

    explorer._lay_out = lay_out
    explorer.left.run.value = explorer.right.run.value
    assert explorer.maps.legend_right["title"] == "vt.color"
    explorer.left.color.value = CLUSTER
    assert explorer.maps.legend_left["title"] == CLUSTER


def test_a_run_without_the_chosen_embedding_shows_its_first(explorer):
    explorer.left.run.value = "V+A+T disjoint, seed 0"
    explorer.left.embedding.value = "text@vt"
    explorer.left.run.value = "MCN, seed 0"
    assert explorer.left.embedding.value == "video"
    assert explorer.maps.places("left").shape == (CLIPS, 2)


def test_a_lasso_filters_the_table_and_dims_the_rest(explorer):
    told(explorer, [np.array([3, 5, 8], np.int32).tobytes()], kind="lasso", side="left")
    assert explorer.table.title == f"3 of {CLIPS} clips"
    assert [row["clip"] for row in explorer.table.rows] == [3, 5, 8]
    assert explorer.maps.filtered
    explorer.search.value = str(explorer.data.clips["id"][5])
    assert [row["clip"] for row in explorer.table.rows] == [5]
    told(explorer, kind="clear")
    assert len(explorer.table.rows) == CLIPS
    assert not explorer.maps.filtered


def test_the_search_wants_all_words_of_caption_label_or_id(explorer):
    clips = explorer.data.clips
    explorer.search.value = "BLUE high"
    wanted = clips["caption"].str.contains("blue") & clips["caption"].str.contains("high")
    assert [row["clip"] for row in explorer.table.rows] == np.flatnonzero(wanted).tolist()


def test_a_click_opens_a_clip_with_its_neighbors_in_the_other_modalities(explorer):
    told(explorer, kind="open", side="left", clip=7, point=7)
    card, name = explorer.card.card, explorer.left.run.value
    found = explorer.data.embeddings(name)
    assert card["id"] == explorer.data.clips["id"][7]
    titles = [one["title"].split(" (")[0] for one in card["lists"]]
    assert titles == ["near in audio", "near in text"]
    space = "@va" if "video@va" in found else ""
    query, gallery = found[f"video{space}"], found[f"audio{space}"]
    best = np.argsort(-(gallery @ query[7]), kind="stable")[:5]
    assert [row["clip"] for row in card["lists"][0]["rows"]] == best.tolist()
    assert [row["clip"] for one in card["lists"] for row in one["rows"] if row["right"]] in ([7], [7, 7], [])
    assert "the right clip has rank" in card["lists"][0]["note"]
    assert explorer.maps.opened == 7


def test_a_point_of_a_map_of_all_modalities_asks_with_its_own(explorer):
    explorer.left.run.value = "MCN, seed 0"
    explorer.left.embedding.value = ALL_MODALITIES
    told(explorer, kind="open", side="left", clip=4, point=2 * CLIPS + 4)
    assert [one["title"].split()[2] for one in explorer.card.card["lists"]] == ["video", "audio"]
    assert "its text" in explorer.card.card["notes"][0]


def test_a_clip_that_is_not_there_is_refused(explorer):
    with pytest.raises(DataError, match="there are 40 clips, got row 40"):
        explorer.look_at(CLIPS)
    told(explorer, kind="open", side="left", clip=10**6, point=0)
    assert explorer.maps.opened == -1


def test_a_run_that_cannot_be_read_is_one_line(study, cache, tmp_path):
    runs = shutil.copytree(study, tmp_path / "runs")
    explorer = explorer_of(runs, cache)
    shown = explorer.maps.places_left
    broken = next(
        name for name in explorer.data.names if name not in (explorer.left.run.value, explorer.right.run.value)
    )
    (explorer.data.runs[broken].path / "embeddings.safetensors").write_bytes(b"nothing")
    explorer.left.run.value = broken
    assert "embeddings.safetensors: cannot be read" in explorer.jobs.words
    assert explorer.maps.places_left == shown
    explorer.left.run.value = explorer.right.run.value
    assert explorer.jobs.words == ""


def test_a_pointed_at_clip_is_told_with_picture_and_caption(explorer):
    sent = answers(explorer)
    told(explorer, kind="hover", side="left", clip=0)
    assert sent[0]["caption"] == HOSTILE_CAPTION
    assert sent[0]["picture"].startswith("data:image/png;base64,")


def test_markup_in_what_others_wrote_stays_text(explorer):
    explorer.left.trust = "<img src=x onerror=alert(1)>"
    assert "<img" not in explorer.left._trust.value
    assert any("<img" in name for name in explorer.left.run.options)  # a select shows its options as text


def test_frames_and_sound_come_after_the_click(study, cache):
    class Media:
        frames = (b"\x89PNG\r\n\x1a\nfirst", b"\x89PNG\r\n\x1a\nsecond", b"GIF89a")
        wav = b"RIFF....WAVE"
        note = "a note"

    explorer = explorer_of(study, cache, media=lambda run, clip: Media())
    explorer.look_at(2)
    assert len(explorer.card.card["frames"]) == 2
    assert explorer.card.card["sound"].startswith("data:audio/wav;base64,")
    assert "a note" in explorer.card.card["notes"]


def test_what_fails_behind_the_card_is_one_line(study, cache):
    def media(run, clip):
        raise DataError(f"{run.path}:\n its store is gone")

    explorer = explorer_of(study, cache, media=media)
    explorer.look_at(2)
    assert explorer.media_jobs.words.endswith("its store is gone")
    assert "\n" not in explorer.media_jobs.words
    assert explorer.card.card["frames"]  # the thumbnail


def test_a_run_that_does_not_name_its_store_says_so_in_one_sentence(study, cache):
    explorer = explorer_of(study, cache, media=clip_media, checkpoints=checkpoint_embeddings)
    explorer.look_at(2)
    assert explorer.media_jobs.words.startswith(str(study))
    assert "provenance.json: data.path is missing, so the run's store is not known" in explorer.media_jobs.words
    assert "KeyError" not in explorer.media_jobs.words
    assert explorer.card.card["frames"]  # the thumbnail


def test_a_sentence_finds_the_clip_whose_text_it_is(study, cache):
    class Asks:
        def __init__(self, run):
            self.run = run

        def text(self, sentence):
            found = RunFolder(self.run.path).embeddings()
            return {name: values[11] for name, values in found.items() if name.split("@")[0] == "text"}

    explorer = explorer_of(study, cache, ask=Asks)
    explorer.left.run.value = "MCN, seed 0"
    explorer.query.gallery.value = "text"
    explorer.query.sentence.value = "any words"
    assert explorer.query.table.rows[0]["clip"] == 11
    assert explorer.maps.marks[0] == 11
    explorer.query.gallery.value = "video"
    explorer.query.answer()
    assert len(explorer.query.table.rows) == 20
    assert explorer.maps.marks == [row["clip"] for row in explorer.query.table.rows[:5]]
    assert explorer.query.table.title.endswith("; ringed: the first 5")
    assert set(np.frombuffer(explorer.maps.chosen, dtype=np.int32)) == {
        row["clip"] for row in explorer.query.table.rows
    }
    assert explorer.maps.filtered


def test_without_a_model_a_sentence_is_refused_and_a_clip_can_ask(explorer):
    assert explorer.query.sentence.disabled
    assert "cannot be asked" in explorer.query.jobs.words
    assert explorer.query.by.options == (SENTENCE,)
    explorer.look_at(9)
    explorer.query.by.value = "opened clip: its audio"
    explorer.query.gallery.value = "video"
    explorer.query.answer()
    assert "the clip itself has rank" in explorer.query.table.title
    assert len(explorer.query.table.rows) == 20


def test_the_slider_moves_the_left_map_through_the_training(study, cache):
    def checkpoints(run, *, progress, cancelled):
        last = run.embeddings()
        random = np.random.default_rng(0)
        return {9: last, 0: {name: random.normal(size=one.shape) for name, one in last.items()}}

    explorer = explorer_of(study, cache, checkpoints=checkpoints)
    row, hint = explorer.course.children[2], explorer.course.hint
    assert (row.layout.display, hint.layout.display) == ("none", None)
    assert "training.keep_every" in hint.value
    trained, right = explorer.maps.places_left, explorer.maps.places_right
    explorer.course.load_steps()
    assert [words.split(" ")[0] for words, _ in explorer.course.slider.options] == ["0", "9"]
    assert (row.layout.display, hint.layout.display) == (None, "none")
    first = explorer.maps.places_left
    explorer.course.slider.value = 1
    assert len({trained, first, explorer.maps.places_left}) == 3
    assert explorer.left.trust.startswith("After step 9")
    assert explorer.maps.places_right == right
    explorer.lay_out()
    assert explorer.maps.places_left == trained
    assert explorer.course.slider.disabled
    assert (row.layout.display, hint.layout.display) == ("none", None)


def test_without_checkpoints_the_slider_says_why_it_is_off(explorer):
    assert explorer.course.load.disabled
    assert "cannot be shown" in explorer.course.jobs.words


def test_clips_whose_neighbors_changed_most_come_first(explorer):
    assert explorer.changed.rows == []
    explorer.tabs.selected_index = 3
    kept = [row["cells"][0] for row in explorer.changed.rows]
    assert len(kept) == CLIPS
    assert kept == sorted(kept)


def test_the_same_on_both_sides_is_laid_out_once(explorer):
    explorer.right.run.value = explorer.left.run.value
    explorer.right.embedding.value = explorer.left.embedding.value
    assert explorer.maps.places_left == explorer.maps.places_right


@pytest.mark.parametrize("choice", ["label", "factor:va.rate", CLUSTER, RANK + "text->video", "has_video", "start_s"])
def test_points_are_colored_by_anything_that_is_known(study, choice):
    data = open_runs(study)
    name = data.names[-1]
    colors = point_colors(data, data.panel(name, data.choices(name)[0]), choice)
    assert colors.codes.shape == (CLIPS,)
    assert colors.codes.max() < len(colors.legend["palette"])


def test_missing_values_are_gray_and_rare_classes_share_a_color(study):
    data = open_runs(study)
    data.clips["word"] = [None, *(f"class {row}" for row in range(1, CLIPS))]
    data.clips["number"] = [np.nan, *range(1, CLIPS)]
    panel = data.panel(data.names[0], data.choices(data.names[0])[0])
    words, numbers = (point_colors(data, panel, name) for name in ("word", "number"))
    assert words.codes[0] == numbers.codes[0] == NONE
    assert words.legend["entries"][-1] == "other (20)"
    assert (numbers.codes[1], numbers.codes[-1]) == (0, 63)
    assert point_colors(data, panel, "nothing").legend["palette"] == []


def test_runs_that_evaluated_other_clips_are_put_in_order(study, tmp_path):
    runs = write_fake_study(tmp_path / "runs", experiments=DEFAULT[:1] + DEFAULT[3:4], seeds=(0,), clips=CLIPS)
    table = pd.read_parquet(runs / "v-a-t-s0" / "clips.parquet")
    table.loc[3, "id"] = "elsewhere:0"
    table.to_parquet(runs / "v-a-t-s0" / "clips.parquet")
    data = open_runs([runs / "v-a-s0", runs / "v-a-t-s0"])
    values = data.embeddings("V+A+T, seed 0")["video"]
    assert np.isnan(values[3]).all()
    assert np.isfinite(np.delete(values, 3, axis=0)).all()
    table["id"] = [f"elsewhere:{row}" for row in range(CLIPS)]
    table.to_parquet(runs / "v-a-t-s0" / "clips.parquet")
    with pytest.raises(DataError, match="evaluated none of the clips"):
        open_runs([runs / "v-a-s0", runs / "v-a-t-s0"]).embeddings("V+A+T, seed 0")


def test_a_folder_without_embeddings_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run with embeddings"):
        open_runs(tmp_path)


def test_two_runs_are_compared_in_numbers(study):
    found = seen_differently(open_runs(study))
    assert 0 <= found["kept"] <= 1
    assert found["clips"] == CLIPS
    assert found["left"] != found["right"]


@pytest.mark.parametrize("content", [None, b"", b"GIF89a", b"RIFF1234AVI ", "text", float("nan")])
def test_only_pictures_become_addresses(content):
    assert picture_address(content) == ""


def test_only_sounds_become_addresses():
    assert sound_address(None) == sound_address(b"\x89PNG") == ""


def test_slow_work_runs_beside_and_can_be_cancelled():
    jobs, started, over, results = Jobs(), threading.Event(), threading.Event(), []

    def work(task):
        started.set()
        while not task.cancelled():
            task.stop.wait(0.01)
        over.set()
        return "late"

    jobs.start("working", work, results.append)
    assert started.wait(5)
    assert jobs.busy
    assert jobs._bar.layout.visibility == "visible"
    jobs._button.click()
    assert over.wait(5)
    assert not jobs.busy
    assert jobs.words == "cancelled"
    assert results == []


def test_work_that_is_asked_how_far_it_is_after_a_cancel_ends():
    jobs = Jobs(patient=False)

    def work(task):
        jobs.cancel()
        task.progress(0.5)

    jobs.start("working", work, lambda result: None)
    assert jobs.words == "cancelled"
    with pytest.raises(CancelledError):
        raise CancelledError("so that the name is right")


@pytest.mark.parametrize(("error", "said"), [(DataError("a\nb"), "a b"), (ValueError("odd"), "ValueError: odd")])
def test_an_error_in_a_thread_is_one_line(error, said):
    jobs, done = Jobs(), threading.Event()

    def work(task):
        raise error

    jobs.start("working", work, lambda result: None)
    for _ in range(500):
        if not jobs.busy:
            break
        done.wait(0.01)
    assert jobs.words == said
