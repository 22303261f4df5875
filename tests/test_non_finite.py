"""Numbers that are not finite: whatever brought them in is what the error names, and nothing else is ever accused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from mcnlab.batch import Batch, Outputs
from mcnlab.config import Settings
from mcnlab.data.drawn_clips import DrawnClips, WindowDraws
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import open_store
from mcnlab.errors import DataError, NonFiniteError
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.numerics import first_non_finite_row
from mcnlab.training.terms import ClusterSizes, ClusterTerm
from mcnlab.training.watch import Moment, check_finite, check_gradient
from tests.faults.numbers import all_zero, change_shards, identical, not_a_number
from tests.small_store import make_store
from tests.test_training import lines, trainer

NAN, INF = float("nan"), float("inf")
CLUSTER = {"clusters": 6, "queue_batches": 1, "refit_every": 2}
SMALL = {"batch": 64, "epochs": 4, "max_steps": 4, "warmup_steps": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


def put(parameter, value):
    with torch.no_grad():
        parameter.fill_(value)


def break_weight(made):
    put(made.model.heads["text_in_joint"].linear.bias, NAN)


def break_input(made):
    made.source._arrays["audio"][5, 0, 3] = NAN  # behind the back of the check that reads it


def break_vectors(made):
    made.source._word_table[:] = 1e38


def widen_weights(made):
    put(made.model.heads["video_in_joint"].linear.weight, 1e38)


def long_embeddings(made):
    for modality in ("video", "text"):
        put(made.model.heads[f"{modality}_in_joint"].linear.bias, 1e3)


def nothing(made):
    pass


CAUSES = {
    "a weight": ({}, break_weight, r"heads\.text_in_joint\.linear\.bias is not finite since an earlier step"),
    "an input": ({}, break_input, r"step 0, clips r1:1: their audio is not finite, as it was read"),
    "an input too large": (
        {},
        break_vectors,
        r"of text overflow float32, its inputs reach 1e\+38, its weights reach 0\.\d+ \(",
    ),
    "weights too large": (
        {},
        widen_weights,
        r"embeddings of video overflow float32, its inputs reach [01]\S+, its weights reach 1e\+38 \(heads\.video_in",
    ),
    "learning rate": (
        {"training": {"lr": 1e30}, "mode": "faithful"},
        nothing,
        r"step 1, .*(features|embeddings) of \w+ overflow float32, its inputs .*, its weights reach \S+e\+30 ",
    ),
    "margin": (
        {"terms": {"contrast": {"margin": 3e38}}},
        nothing,
        r"term contrast of \w\w is inf.*its embeddings are finite \(float32, up to 1 long\), margin 3e\+38",
    ),
    "temperature": (
        {"terms": {"contrast": {"temperature": 1e-40}}},
        nothing,
        r"term contrast of \w\w is nan.*embeddings are finite \(float32, up to 1 long\), .*temperature 1e-40",
    ),
    "float16": (
        {"mode": "faithful", "training": {"precision": "float16"}, "terms": {"contrast": {}}},
        long_embeddings,
        r"term contrast of vt is nan.*embeddings are finite \(float16, up to \S+e\+03 long\), margin 0\.001$",
    ),
    "margin of the clusters": (
        {"terms": {"cluster": {**CLUSTER, "margin": 3e38, "temperature": 0.01}}},
        nothing,
        r"term cluster of \w+ is (inf|nan).*up to 1 long\), margin 3e\+38, temperature 0\.01",
    ),
    "weight of a term": (
        {"terms": {"contrast": {"weight": 3e38}}},
        nothing,
        r"weighted sum of the terms is inf in stage 1:VAT, step 0, while each .* contrast \S+ × 3e\+38",
    ),
}


@pytest.mark.parametrize("name", list(CAUSES))
def test_the_cause_is_named(store, tmp_path, name):
    changes, plant, said = CAUSES[name]
    made = trainer(
        store, tmp_path / "run", stages="VAT", **{**changes, "training": SMALL | changes.get("training", {})}
    )
    plant(made)
    with pytest.raises(NonFiniteError, match=said):
        made.train()


@pytest.mark.parametrize(
    ("plants", "said"),
    [
        ((break_input, break_weight), r"heads\.text_in_joint\.linear\.bias is not finite since"),
        ((break_input, widen_weights), r"their audio is not finite, as it was read"),
        ((break_vectors,), r"term contrast of vt is nan .*: the \w+ of text overflow"),
    ],
)
def test_of_two_causes_the_first_in_the_order_of_computation_is_named(store, tmp_path, plants, said):
    changes = {"terms": {"contrast": {"margin": 3e38}}, "training": SMALL}
    made = trainer(store, tmp_path / "run", stages="VAT", **changes)
    for plant in plants:
        plant(made)
    with pytest.raises(NonFiniteError, match=said):
        made.train()


def test_of_two_terms_the_first_is_named(store, tmp_path):
    terms = {"contrast": {"margin": 3e38}, "cluster": {**CLUSTER, "margin": 3e38}}
    made = trainer(store, tmp_path / "run", stages="VT", terms=terms, training=SMALL)
    with pytest.raises(NonFiniteError, match="term contrast of vt"):
        made.train()


@pytest.mark.parametrize("mode", ["sound", "faithful"])
@pytest.mark.parametrize("change", [all_zero, identical], ids=["zero vectors", "empty clusters"])
def test_zero_vectors_and_empty_clusters_stay_finite_and_are_not_accused(tmp_path, mode, change):
    make_store(tmp_path / "store", recordings=12, test=4)
    change_shards(tmp_path / "store", change)
    made = trainer(
        open_store(tmp_path / "store"),
        tmp_path / "run",
        stages="VA",
        mode=mode,
        terms={"contrast": {}, "cluster": CLUSTER, "reconstruct": {}},
        training=SMALL,
    )
    made.train()
    for line in lines(tmp_path / "run"):
        assert all(math.isfinite(value) for value in line.values() if isinstance(value, float)), line


def moment(video):
    """Three clips with a video embedding, and a term."""
    present = {"video": torch.ones(len(video), dtype=torch.bool)}
    batch = Batch({}, {}, present, torch.arange(7, 7 + len(video)))
    term = ClusterTerm(
        weight=1.0,
        sizes=ClusterSizes(1, 1, 1),
        spaces={"joint": 2},
        faithful=False,
        temperature=0.1,
        margin=0.0,
        divide=True,
        seed=0,
    )
    outputs = Outputs({}, {("video", "joint"): video}, present)
    return Moment(torch.nn.Linear(1, 1), batch, batch, outputs, [term], "1:VA", 3, "c{}".format)


def test_the_clips_whose_embedding_is_not_finite_are_named():
    video = torch.ones(3, 2)
    video[1] = INF
    with pytest.raises(NonFiniteError, match=r"term cluster of video is nan in stage 1:VA, step 3, clips c8: "):
        check_finite({"cluster": 0.0, "cluster.video": NAN}, 0.0, moment(video))


def test_a_sum_of_parts_that_overflows_is_named():
    with pytest.raises(
        NonFiniteError, match=r"term cluster is inf in stage 1:VA, step 3, clips c7, c8, c9: the term its"
    ):
        check_finite({"cluster": INF, "cluster.video": 3e38}, INF, moment(torch.ones(3, 2)))


@given(total=st.floats(allow_nan=False, allow_infinity=False), part=st.floats(allow_nan=False, allow_infinity=False))
@examples(derandomize=True, deadline=None, max_examples=50)
def test_finite_numbers_are_never_accused(total, part):
    check_finite({"cluster": total, "cluster.video": part}, total, moment(torch.full((3, 2), NAN)))
    check_gradient(abs(total), torch.nn.Linear(1, 1), stage="1:VA", step=0)


def test_float16_that_overflows_for_ever_ends_and_now_and_then_goes_on(store, tmp_path):
    training = {**SMALL, "precision": "float16", "epochs": 60, "max_steps": 60}
    made = trainer(store, tmp_path / "run", stages="VT", training=training)
    weight = made.model.heads["text_in_joint"].linear.weight
    once = iter([INF])
    hook = weight.register_hook(lambda gradient: gradient * next(once, 1.0))
    made.train()
    norms = [line["grad_norm"] for line in lines(tmp_path / "run")]
    assert [math.isfinite(norm) for norm in norms] == [False] + [True] * 59
    hook.remove()
    again = trainer(store, tmp_path / "again", stages="VT", training=training)
    again.model.heads["text_in_joint"].linear.weight.register_hook(lambda gradient: gradient * INF)
    with pytest.raises(NonFiniteError, match=r"norm of the gradient is not finite .* step 35, .*heads\.text_in_joint"):
        again.train()


def test_a_fused_row_that_overflows_is_said_in_the_step_of_a_fit():
    made = moment(torch.ones(3, 2)).terms[0]
    members = {"video": torch.full((3, 2), 6e4).half(), "audio": torch.full((3, 2), 6e4).half()}
    flags = dict.fromkeys(members, torch.ones(3, dtype=torch.bool))
    assert made._due("joint", 0)
    assert all(bool(loss.isnan()) for loss in made._losses("joint", members, flags, 0).values())


def test_clips_that_are_drawn_anew_are_refused_when_they_are_read(tmp_path):
    make_store(tmp_path / "store", recordings=12, test=4)
    change_shards(tmp_path / "store", not_a_number)
    clips = DrawnClips(open_store(tmp_path / "store"), "train", window=ClipWindow(), rule=WindowDraws(window_s=1.28))
    [places] = clips.epoch((0, "1:VA", 0), batch=len(clips))
    with pytest.raises(DataError, match=r"clip r0 from \d\.\d\d to \d\.\d\d s: video holds values that are not finite"):
        clips.batch(places)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_first_row_that_is_not_finite_is_found_wherever_it_is(dtype, bad):
    values = np.full((5000, 40), np.finfo(np.float16).max if dtype != np.int32 else 7).astype(dtype)
    values[0], values[1] = 0, -values[1]
    assert first_non_finite_row(values) is None
    assert first_non_finite_row(values[:0]) is None
    if dtype != np.int32:
        for row in (4999, 4000, 0):
            values[row, 39] = bad
            assert first_non_finite_row(values) == row
            assert first_non_finite_row(values.T) == 39


def groups(settings):
    """All groups of settings inside one."""
    for field in settings.model_fields.values():
        found = [field.annotation]
        while found:
            one = found.pop()
            found += getattr(one, "__args__", ())
            if isinstance(one, type) and issubclass(one, Settings):
                yield one
                yield from groups(one)


def test_no_setting_takes_what_is_not_finite_but_the_limit_of_the_gradient():
    takes = set()
    for group in {ExperimentSettings, *groups(ExperimentSettings)}:
        for name in group.model_fields:
            for value in (INF, -INF, NAN):
                takes |= {(group.__name__, name, value)} if _takes(group, name, value) else set()
    assert takes == {("TrainingSettings", "max_grad_norm", INF)}


def _takes(group, name, value):
    """Whether a field takes a value, whatever else the group needs."""
    try:
        group.model_validate({name: value})
    except ValidationError as error:
        return not any(problem["loc"][:1] == (name,) for problem in error.errors())
    return True
