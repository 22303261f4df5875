"""Language guidance: the set of named kinds, names and their vectors, the terms, unseen classes, and the study."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from mcnlab.batch import Batch, Outputs
from mcnlab.data.kinds import KindSettings, build_kinds, kinds_fingerprint
from mcnlab.data.kinds.build import names_of_splits
from mcnlab.data.kinds.names import NOUNS, TRAITS
from mcnlab.data.names import known_names, text_network_vectors, word_vectors_of
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.experiment.build import build_model
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.language import guidance_vectors, pseudo_names
from mcnlab.experiment.objective import TrainingFacts, build_terms
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.losses import multi_similarity, relation_match
from mcnlab.metrics.classes import (
    agreement,
    average_precision_at_r,
    chance_of_class,
    class_hits,
    class_similarities,
)
from mcnlab.metrics.statistics import Interval
from mcnlab.numerics import l2_normalize
from mcnlab.reporting.answer import answer
from mcnlab.reporting.comparison import gap
from mcnlab.reporting.guidance import guidance_answer, guidance_table, verdict, without_guidance
from mcnlab.reporting.notebooks import execute, notebook_path, settings_path
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.summary import Column, summarize
from mcnlab.reporting.unseen import agreement_figure, similarity_figure, unseen_figure, unseen_in_words, unseen_table
from mcnlab.study import LANGUAGE_NOTEBOOK, notebooks_of
from mcnlab.study_plan import StudyFolders, laid_over, plan_runs, read_study
from mcnlab.training.terms import Active
from tests.small_store import make_store

SMALL = {"seen": 10, "unseen": 5, "further": 10, "clips_per_class": 12, "short_cut": 2.0, "noise": 0.7}
GUIDE = {"metric": {}, "guide": {"weight": 20}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_kinds(KindSettings(**SMALL), tmp_path_factory.mktemp("kinds") / "store")


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Without language, with own, pseudo- and shuffled names, and the first two with the margin loss."""
    folder = tmp_path_factory.mktemp("runs")
    namer = {
        "experiment": "namer",
        "data": {"train_split": "further", "classes_per_batch": None},
        "terms": {"classify": {"reads": "embeddings"}},
        "evaluation": {"tasks": ["clusters"]},
    }
    pseudo = {"names": "pseudo", "namer": namer, "top": 3}
    for name, guide in (
        ("no language", None),
        ("own names", {}),
        ("pseudo", pseudo),
        ("shuffled", {"names": "shuffled"}),
        ("margin", None),
        ("margin own names", {}),
    ):
        terms = {"metric": {"loss": "margin" if name.startswith("margin") else "multi_similarity"}}
        terms |= {} if guide is None else {"guide": laid_over(GUIDE["guide"], guide)}
        run_experiment(settings(store, experiment=name, terms=terms), folder / f"{name.replace(' ', '-')}-s0")
    return folder


def settings(store, **changes):
    base = {
        "experiment": "x",
        "data": {"store": str(store.path), "label": "label", "classes_per_batch": 5},
        "stages": [{"epochs": 25, "modalities": ["video"]}],
        "terms": GUIDE,
        "model": {"dim": 16},
        "training": {"batch": 20, "lr": 0.01, "warmup_steps": 5, "threads": 1},
        "evaluation": {"tasks": ["unseen"]},
    }
    terms = changes.pop("terms", GUIDE)
    return ExperimentSettings.parse({**laid_over(base, changes), "terms": terms}, source="test")


def measured(runs, name):
    rows = pd.DataFrame(json.loads((runs / f"{name}-s0" / "results.json").read_text())["rows"])
    return rows[rows.task == "unseen"].set_index("metric")["value"]


def test_the_splits_hold_the_classes_that_they_should_and_the_same_settings_the_same_bytes(store, tmp_path):
    classes = {split: set(store.clips(split)["label"]) for split in store.splits}
    assert {split: len(names) for split, names in classes.items()} == {"train": 10, "val": 10, "test": 5, "further": 10}
    assert classes["train"] == classes["val"]
    assert not classes["train"] & classes["test"]
    assert not classes["further"] & (classes["train"] | classes["test"])
    again = build_kinds(KindSettings(**SMALL), tmp_path / "again")
    assert again.fingerprint == store.fingerprint
    assert kinds_fingerprint(KindSettings(**SMALL)) != kinds_fingerprint(KindSettings(**SMALL, seed=1))
    assert names_of_splits(KindSettings(**SMALL))["test"] != names_of_splits(KindSettings(**SMALL, seed=1))["test"]


def test_names_tell_what_classes_are_like_and_the_short_cut_does_not(store):
    """Seen classes are found at a glance, and their likeness is less that of the names than without the short-cut."""
    found = {}
    for name, where in (("with", store), ("without", None)):
        where = where or build_kinds(KindSettings(**{**SMALL, "short_cut": 0.0}), store.path.parent / "plain")
        clips = where.clips("val")
        x = np.stack(
            [where[row].tracks["video_2d"][int(s)] for row, s in zip(clips.recording, clips.start_s, strict=True)]
        )
        names, numbers = np.unique(clips["label"].to_numpy().astype(str), return_inverse=True)
        language = class_similarities(word_vectors_of(names.tolist(), where.word_vectors), np.arange(len(names)))
        likeness = agreement(class_similarities(x.astype(np.float64), numbers), language)
        found[name] = class_hits(x.astype(np.float64), numbers)[1].mean(), likeness
    assert found["with"][0] > 0.9
    assert found["with"][1] < found["without"][1] - 0.1
    assert found["without"][1] > 0.8


def test_more_classes_than_names_are_refused():
    with pytest.raises(ConfigError, match="110 classes are wanted, but there are names for 100"):
        KindSettings.parse({"seen": 50, "unseen": 20, "further": 40}, source="test")


def test_recall_and_average_precision_of_classes_on_paper():
    x = np.array([[1.0, 0.0], [0.98, 0.2], [0.9, 0.45], [0.0, 1.0]])
    y = np.array([0, 1, 0, 1])
    hits = class_hits(x, y, ks=(1, 2, 3))
    assert hits[1].tolist() == [False, False, False, False]
    assert hits[2].tolist() == [True, False, True, True]
    assert hits[3].tolist() == [True, True, True, True]
    assert average_precision_at_r(x, np.array([0, 0, 0, 1]))[:3].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(average_precision_at_r(x, np.array([0, 0, 0, 1]))[3])
    assert average_precision_at_r(x, y).tolist() == [0.0, 0.0, 0.0, 0.0]
    assert average_precision_at_r(x, np.array([0, 1, 0, 0]))[0] == pytest.approx(
        0.25
    )  # one hit, in second place of two


@pytest.mark.parametrize("k", [1, 2, 4])
def test_chance_is_what_random_neighbors_reach(k):
    random, y = np.random.default_rng(0), np.repeat([0, 1, 2, 3], [2, 3, 5, 10])
    found = [class_hits(random.normal(size=(20, 30)), y, ks=(k,))[k].mean() for _ in range(300)]
    assert chance_of_class(y, k) == pytest.approx(np.mean(found), abs=0.015)


def test_agreement_is_of_ranks_and_wants_three_classes():
    table = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]])
    assert agreement(table, np.exp(5 * table)) == pytest.approx(1.0)
    assert agreement(table, -table) == pytest.approx(-1.0)
    with pytest.raises(ShapeError, match="three classes or more"):
        agreement(table[:2, :2], table[:2, :2])
    with pytest.raises(ShapeError, match="4 embeddings but 3 labels"):
        class_hits(np.eye(4), np.arange(3))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        class_hits(np.eye(4), np.arange(4), ks=(0,))


def test_a_name_is_the_mean_of_its_known_words(store):
    words = store.word_vectors
    amber, bird = (words.vectors[words.index[word]] for word in ("amber", "bird"))
    found = word_vectors_of(["amber bird", "Bird of paradisus"], words)
    np.testing.assert_allclose(found[0], (amber + bird) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[1], (bird + words.vectors[words.index["of"]]) / 2, rtol=1e-6)
    assert known_names(["amber bird", "xylophone"], words) == ("amber bird",)
    with pytest.raises(DataError, match="no word of the name 'xylophone' has a vector"):
        word_vectors_of(["amber bird", "xylophone"], words)


def small_text_network(folder):
    """A tiny text network with random weights, so large that sentences differ; it knows the words of the names."""
    transformers, tokenizers = (pytest.importorskip(name) for name in ("transformers", "tokenizers"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", *TRAITS, *NOUNS]
    whole = tokenizers.Tokenizer(tokenizers.models.WordLevel({p: k for k, p in enumerate(pieces)}, unk_token="[UNK]"))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **special)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    sizes |= {"max_position_embeddings": 16, "initializer_range": 1.0}
    config = transformers.BertConfig(vocab_size=len(pieces), **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_a_text_network_from_a_folder_gives_the_names_their_vectors(tmp_path):
    small_text_network(tmp_path / "network")
    both = text_network_vectors(["amber bird", "tall tree"], tmp_path / "network")
    alone = text_network_vectors(["tall tree"], tmp_path / "network")
    assert both.shape == (2, 8)
    np.testing.assert_allclose(both[1], alone[0], atol=1e-5)  # padding takes no part
    assert not np.allclose(both[0], both[1], atol=1e-3)
    with pytest.raises(ConfigError, match=r"has no \{\} for the name"):
        text_network_vectors(["tall tree"], tmp_path / "network", sentence="a photo")
    with pytest.raises(DataError, match="nowhere: no text network there"):
        text_network_vectors(["tall tree"], tmp_path / "nowhere")


def test_classes_lie_as_a_text_network_says_and_experiments_without_it_are_measured_by_the_same(store, tmp_path):
    network = str(small_text_network(tmp_path / "network"))
    found = {}
    close = {"shift": 0.0, "temperature": 0.1, "weight": 500}  # to this network all names are alike: cosines from .7
    for name, terms in (("plain", {"metric": {}}), ("guided", {"metric": {}, "guide": {"network": network, **close}})):
        wanted = settings(store, experiment=name, terms=terms, evaluation={"network": network})
        run_experiment(wanted, tmp_path / f"{name}-s0")
        found[name] = measured(tmp_path, name)
    assert found["plain"]["untrained_agreement"] == pytest.approx(found["guided"]["untrained_agreement"])
    assert found["guided"]["agreement"] > 0.8 > found["plain"]["agreement"] + 0.2
    with pytest.raises(DataError, match=r"evaluation\.network: .*nowhere: no such folder"):
        run_experiment(settings(store, evaluation={"network": str(tmp_path / "nowhere")}), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_the_terms_are_their_losses_on_the_clips_with_a_class_and_the_modality(store):
    wanted = settings(store)
    model, language = build_model(wanted, store, seed=0), torch.randn(10, 2, 5)
    terms = build_terms(wanted, model.graph, seed=0, facts=TrainingFacts(language=language))
    x = l2_normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)))
    present, labels = torch.tensor([True, True, True, False, True, True]), torch.tensor([0, 0, 3, 3, -1, 7])
    batch = Batch({}, {}, {"video": present}, torch.arange(6), labels=labels)
    outputs, active = Outputs({}, {("video", "joint"): x}, {"video": present}), Active(("video",), (), 0)
    kept = torch.tensor([0, 1, 2, 5])
    metric, guide = (terms[name](model, batch, outputs, active).total for name in ("metric", "guide"))
    assert metric.item() == pytest.approx(multi_similarity(x[kept], labels[kept]).item())
    assert guide.item() == pytest.approx(relation_match(x[kept], language[labels[kept]], labels[kept]).item())
    assert (terms["metric"].weight, terms["guide"].weight) == (1.0, 20.0)
    nobody = Batch({}, {}, {"video": present}, torch.arange(6), labels=torch.full((6,), -1))
    assert terms["guide"](model, nobody, outputs, active).total is None


def test_own_names_shuffled_names_and_names_by_scores(store):
    own, shuffled = (
        guidance_vectors(settings(store, terms={"guide": {"names": names}}), store, None, seed=0)
        for names in ("expert", "shuffled")
    )
    assert own.shape == shuffled.shape == (10, 1, 32)
    assert not torch.equal(own, shuffled)
    assert torch.equal(own.flatten(1).sort(dim=0).values, shuffled.flatten(1).sort(dim=0).values)
    scores = np.array([[3.0, 0, 1], [1, 0, 2], [0, 5, 1], [9, 9, 9]])
    assert pseudo_names(scores, np.array([0, 0, 1, -1]), classes=2, top=2).tolist() == [[0, 2], [1, 2]]


def test_guided_classes_lie_as_language_says_and_those_with_shuffled_names_do_not(runs):
    found = {name: measured(runs, name)["agreement"] for name in ("no-language", "own-names", "pseudo", "shuffled")}
    assert found["own-names"] > 0.8
    assert found["own-names"] > found["no-language"] + 0.2
    assert found["pseudo"] > found["no-language"]
    assert found["shuffled"] < 0.5
    assert measured(runs, "margin-own-names")["agreement"] > max(0.8, measured(runs, "margin")["agreement"] + 0.2)
    rows = measured(runs, "own-names")
    for metric in (
        "recall_at_1",
        "recall_at_2",
        "recall_at_4",
        "recall_at_8",
        "map_at_r",
        "nmi",
        "agreement",
        "agreement_unseen",
    ):
        assert {metric, f"untrained_{metric}"} <= set(rows.index)
    assert rows["chance_recall_at_1"] == pytest.approx(11 / 59)


def test_the_namer_is_trained_once_and_keeps_its_place(runs):
    made = [path for path in (runs / ".teachers").iterdir() if path.is_dir()]
    assert len(made) == 1
    assert json.loads((made[0] / "provenance.json").read_text())["key"] == made[0].name
    assert len(json.loads((made[0] / "provenance.json").read_text())["classes"]) == 10


def test_the_report_shows_which_classes_are_alike(runs):
    names = ["no language", "own names", "pseudo", "shuffled", "margin", "margin own names"]
    study = summarize(runs, order=names)
    figure = similarity_figure(study)
    assert len(figure.plot.data) == 7  # language, and six experiments
    assert figure.numbers.loc[:, "language"].isin(figure.numbers.index).all()
    assert set(unseen_table(study).index) == {*names, "chance", "untrained"}
    assert "own names" in agreement_figure(study).alt
    assert unseen_figure(study) is not None
    assert any("Agreement of the seen classes with language" in one for one in unseen_in_words(study))
    assert "Unseen classes and language" in index_page(study)
    assert study.recipes["own names"].in_words == "video alone · metric + guide (own names)"
    assert study.recipes["margin own names"].in_words == "video alone · metric (margin) + guide (own names)"
    assert {name for name in names if study.recipes[name].family == "control"} == {"shuffled"}


def test_what_guidance_changes_is_told_beside_the_same_without_it(runs):
    study = summarize(runs)
    plain = {"own names": "no language", "pseudo": "no language", "shuffled": "no language"}
    assert without_guidance(study) == {**plain, "margin own names": "margin"}
    _, lead, points = guidance_answer(study)
    assert "“own names”" in lead
    own, none = (measured(runs, name)["recall_at_1"] for name in ("own-names", "no-language"))
    assert any(f"“own names” {own:.3f}, “no language” {none:.3f}" in point for point in points)
    assert any("“no language” less its own towers before training" in point for point in points)
    assert "What language adds" in [part.heading for part in answer(study)]
    table = guidance_table(study)
    assert table.loc["R@1", "own names − no language"] == f"{own - none:+.3f}".replace("-", "−")
    assert {"mAP@R", "NMI", "agreement, seen"} <= set(table.index)


def test_a_difference_is_of_equal_seeds_and_better_only_away_from_zero():
    more = gap({0: 0.6, 1: 0.7, 2: 0.9}, {0: 0.5, 1: 0.58, 5: 0.1})
    assert (more.n, more.value) == (2, pytest.approx(0.11))
    assert gap({0: 1.0}, {1: 1.0}) is None
    three = [Interval(value, value - 0.05, value + 0.05, 3) for value in (0.1, 0.01, -0.1)]
    assert [verdict(one) for one in three] == ["better", "not clearly differently", "worse"]
    assert verdict(Interval(0.1, None, None, 1)) == "better in one seed"


def test_classes_that_were_trained_on_are_not_unseen(tmp_path):
    other = make_store(tmp_path / "store")
    wanted = settings(other, data={"classes_per_batch": None}, terms={"metric": {}})
    with pytest.raises(DataError, match="not trained on, but 'class0' is in split 'train' too"):
        run_experiment(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"guide": {"names": "pseudo"}}, "names: pseudo and namer go together"),
        (
            {"guide": {"namer": {"experiment": "n", "terms": {"metric": {}}}, "names": "pseudo"}},
            "have the term classify",
        ),
        ({"guide": {"sentence": "a photo"}}, "sentence"),
        ({"metric": {"modalities": ["audio"]}}, r"terms\.metric\.modalities: no stage trains 'audio'"),
    ],
)
def test_guidance_that_does_not_fit_is_refused(store, terms, said):
    with pytest.raises(ConfigError, match=said):
        settings(store, terms=terms)


def test_another_namer_or_other_names_make_another_run(store):
    namer = {"experiment": "n", "data": {"train_split": "further"}, "terms": {"classify": {}}}
    wider = laid_over(namer, {"model": {"dim": 32}})
    guides = ({}, {"names": "shuffled"}, {"names": "pseudo", "namer": namer}, {"names": "pseudo", "namer": wider})
    wanted = [settings(store, terms={"guide": guide}) for guide in guides]
    assert len({run_key(one, 0) for one in wanted}) == 4
    resolved = ExperimentSettings.parse(wanted[2].model_dump(), source="again")
    assert run_key(resolved, 0) == run_key(wanted[2], 0)


def trained(name, folder):
    """A study that comes with mcnlab, all its runs."""
    path = settings_path(f"studies/{name}.yaml")
    study, folders = read_study(path), StudyFolders(folder, name)
    for run in plan_runs(study, folders, path):
        run_experiment(run.settings, run.folder, seed=run.seed, stores=folders.stores)
    return summarize(folders.runs, order=[one["experiment"] for one in study.experiments])


@pytest.mark.slow
def test_where_a_short_cut_misleads_language_finds_unseen_classes_better_and_wrong_names_worse(tmp_path):
    summary = trained("language_guidance", tmp_path)
    recall = summary.intervals(Column("", "unseen", ("video",), "recall_at_1"))
    seen = summary.intervals(Column("", "unseen", ("video",), "agreement"))
    assert {one.n for one in recall.values()} == {5}
    assert seen["own names"].value >= 0.8
    assert seen["margin loss, own names"].value >= 0.8
    assert recall["own names"].value > recall["no language"].value > recall["shuffled names"].value
    assert recall["shuffled names"].value > summary.level("unseen", "video", "chance_recall_at_1")
    assert recall["margin loss, own names"].value > recall["margin loss"].value
    table = guidance_table(summary)
    assert table.loc["R@1", "own names − no language"].startswith("+")
    assert len(table.columns) == 4


@pytest.mark.slow
def test_without_a_short_cut_every_measure_is_told_whatever_it_is(tmp_path):
    """No goal on the order here; but classes lie as language says, and the table has all experiments and measures."""
    summary = trained("language_without_short_cut", tmp_path)
    table = unseen_table(summary)
    assert list(table.index) == [*summary.experiments, "chance", "untrained"]
    assert {"R@1", "R@2", "R@4", "R@8", "mAP@R", "NMI"} < set(table.columns)
    assert (table.loc[list(summary.experiments), "seeds"] == "5").all()
    assert (table.loc[list(summary.experiments)] != "").all(axis=None)
    assert summary.intervals(Column("", "unseen", ("video",), "agreement"))["own names"].value >= 0.8
    assert len(guidance_table(summary).columns) == 4


def test_the_store_opens_again(store):
    assert open_store(store.path).info["kinds"]["seen"] == 10


@pytest.mark.notebook
def test_the_notebook_records_what_language_adds(runs, tmp_path):
    assert LANGUAGE_NOTEBOOK in notebooks_of(runs)
    out = tmp_path / "numbers.json"
    execute(notebook_path(LANGUAGE_NOTEBOOK), tmp_path / "n.ipynb", {"study_dir": str(runs), "out": str(out)})
    recorded = json.loads(out.read_text())["agreement video own names"]
    assert recorded == pytest.approx(measured(runs, "own-names")["agreement"])
