"""Graphs: where modalities meet, which ways lead there, and what is refused before training."""

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.errors import ConfigError
from mcnlab.experiment import Embeddings
from mcnlab.experiment.graphs import GraphSettings
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.graph import Graph, Space, SpaceMap, build_graph, fine_and_coarse_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.models.towers import RowNorm
from mcnlab.training.loop import freeze
from tests.rank_cases import stop, train, trainer
from tests.small_store import make_store

CLIPS = 6
RECIPE = {"experiment": "test", "data": "world", "stages": "AV_T"}
WRITTEN = {
    "name": "mine",
    "spaces": {
        "fine": {"members": ["video", "audio"], "dim": 12, "heads": {"video": "mlp"}},
        "coarse": {"members": ["text"], "dim": 6},
    },
    "pairs": {"va": "fine", "vt": "coarse"},
    "maps": [{"source": "fine", "target": "coarse"}],
}


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    inputs = {
        "video": torch.randn(CLIPS, 10, generator=draw),
        "audio": torch.randn(CLIPS, 40, 64, generator=draw),
        "text": torch.randn(CLIPS, 5, 7, generator=draw),
    }
    lengths = {"audio": torch.full((CLIPS,), 64), "text": torch.full((CLIPS,), 5)}
    return Batch(inputs, lengths, {m: torch.ones(CLIPS, dtype=torch.bool) for m in inputs}, torch.arange(CLIPS))


def model_of(graph, *, decoders=False):
    sizes = ModelSizes({"video": 10, "audio": 40, "text": 7}, dim=16, audio_width=16, audio_blocks=1, decoder_hidden=8)
    return MultimodalModel(sizes, graph, faithful=False, decoders=decoders, seed=0)


def test_fine_and_coarse_lets_audio_and_text_meet_where_the_map_leads():
    graph = build_graph("fac", ("video", "audio", "text"), ("va", "vt"))
    assert graph.common_space("audio", "text") == "vat"
    assert graph.common_space("video", "audio") == "va"
    assert [step.name for step in graph.way("audio", "vat")] == ["va_to_vat"]
    assert graph.members == {"va": ("video", "audio"), "vat": ("video", "audio", "text")}
    assert graph.way("text", "va") is None, "nothing goes back"


def test_disjoint_spaces_join_no_third_pair():
    graph = build_graph("disjoint", ("video", "audio", "text"), ("va", "vt"))
    assert graph.common_space("audio", "text") is None


def test_training_takes_only_video_through_the_map(batch):
    model = model_of(fine_and_coarse_graph(coarse_dim=8)).train()
    alone = model(batch, ("video", "text")).embeddings
    after_video = model.maps["va_to_vat"][2].running_mean.clone()
    assert set(alone) == {("video", "va"), ("video", "vat"), ("text", "vat")}
    again = model_of(fine_and_coarse_graph(coarse_dim=8)).train()
    assert ("audio", "vat") not in again(batch).embeddings
    assert torch.equal(again.maps["va_to_vat"][2].running_mean, after_video), "audio has touched the map's statistics"


def test_evaluation_takes_audio_there_too(batch):
    embeddings = model_of(fine_and_coarse_graph(coarse_dim=8)).eval()(batch).embeddings
    assert embeddings["audio", "vat"].shape == (CLIPS, 8)
    assert embeddings["audio", "va"].shape == (CLIPS, 16)
    assert torch.allclose(embeddings["audio", "vat"].norm(dim=1), torch.ones(CLIPS), atol=1e-5)


def test_a_stage_without_text_leaves_the_coarse_space_alone(batch):
    model = model_of(fine_and_coarse_graph(coarse_dim=8)).train()
    found = model(batch, ("video", "audio"), pairs=("va",)).embeddings
    assert set(found) == {("video", "va"), ("audio", "va")}
    assert not model.maps["va_to_vat"][2].num_batches_tracked


def test_the_same_tower_starts_equal_in_every_graph():
    heads = {"video": "mlp", "audio": "linear", "text": "linear"}
    fac = model_of(fine_and_coarse_graph()).state_dict()
    apart = model_of(build_graph("disjoint", ("video", "audio", "text"), ("va", "vt"), heads=heads)).state_dict()
    for name in ("heads.video_in_va.0.weight", "heads.audio_in_va.weight"):
        assert torch.equal(fac[name], apart[name])


def test_decoders_belong_to_heads_of_their_own():
    model = model_of(fine_and_coarse_graph(coarse_dim=8), decoders=True)
    assert set(model.decoders) == {"video_in_va", "audio_in_va", "text_in_vat"}
    assert model.reconstruct(torch.zeros(2, 8), modality="text", space="vat").shape == (2, 16)


def test_a_lone_row_is_normalized_by_what_was_seen_before():
    norm = RowNorm(3).train()
    norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)))
    before = norm.running_mean.clone()
    row = torch.randn(1, 3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(norm(row), norm.eval()(row))
    assert torch.equal(norm.running_mean, before)


def test_a_written_graph_is_the_one_by_name():
    graph = GraphSettings.parse(WRITTEN, source="graph").built()
    named = fine_and_coarse_graph(coarse_dim=6)
    assert graph.common_space("audio", "text") == "coarse"
    assert [graph.members[name] for name in ("fine", "coarse")] == list(named.members.values())


def test_a_graph_brings_its_pairs_along():
    assert ExperimentSettings.parse({**RECIPE, "graph": "fac"}, source="e.yaml").trained_pairs == ("va", "vt")
    assert ExperimentSettings.parse({**RECIPE, "graph": WRITTEN}, source="e.yaml").trained_pairs == ("va", "vt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"pairs": {"va": "fine", "vt": "coarse", "at": "fine"}},
            "no way leads text into 'fine'; there is video, audio",
        ),
        ({"pairs": {"va": "fine", "vt": "nowhere"}}, "'nowhere' is not among the spaces"),
        ({"pairs": {"va": "fine", "xy": "fine"}}, "'xy' does not name two modalities"),
        ({"pairs": {"va": "fine"}}, "spaces.coarse: no pair is compared in it"),
        ({"maps": [*WRITTEN["maps"], {"source": "coarse", "target": "fine"}]}, "is a circle"),
        ({"maps": [{"source": "fine", "target": "fine"}]}, "is a circle"),
        ({"maps": WRITTEN["maps"] * 2}, "two maps lead into 'coarse'"),
        ({"maps": [{"source": "fine", "target": "elsewhere"}]}, "'elsewhere' is not among the spaces"),
    ],
)
def test_a_graph_that_cannot_work_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        ExperimentSettings.parse({**RECIPE, "graph": {**WRITTEN, **changes}}, source="e.yaml")


def test_an_unknown_setting_of_a_written_graph_is_named_by_its_place():
    spaces = {**WRITTEN["spaces"], "coarse": {"members": ["text"], "dimension": 6}}
    with pytest.raises(ConfigError, match=r"unknown setting 'graph\.spaces\.coarse\.dimension'"):
        ExperimentSettings.parse({**RECIPE, "graph": {**WRITTEN, "spaces": spaces}}, source="e.yaml")


def test_an_error_of_the_whole_says_what_is_wrong_and_not_the_whole():
    with pytest.raises(ConfigError) as told:
        ExperimentSettings.parse(
            {"experiment": "e", "data": "world", "stages": "VAT", "graph": "fac", "pairs": ["at"]}, source="e.yaml"
        )
    assert str(told.value) == "e.yaml: pairs: the graph compares va, vt and gives no way for 'at'"


def test_a_head_of_nobody_is_refused():
    spaces = {**WRITTEN["spaces"], "coarse": {"members": ["text"], "heads": {"audio": "mlp"}}}
    with pytest.raises(ConfigError, match="not among the members"):
        GraphSettings.parse({**WRITTEN, "spaces": spaces}, source="graph")


def test_a_pair_that_the_graph_does_not_compare_is_refused():
    with pytest.raises(ConfigError, match="gives no way for 'at'"):
        ExperimentSettings.parse({**RECIPE, "graph": "fac", "pairs": ["va", "vt", "at"]}, source="e.yaml")


def test_two_modalities_are_compared_where_the_graph_lets_them_meet():
    draw = np.random.default_rng(0)
    keys = [("video", "va"), ("audio", "va"), ("video", "vat"), ("audio", "vat"), ("text", "vat")]
    arrays = {key: draw.normal(size=(CLIPS, 8 if key[1] == "va" else 4)).astype(np.float32) for key in keys}
    arrays["text", "vat"][0] = np.nan
    found = Embeddings(tuple("abcdef"), arrays, fine_and_coarse_graph(coarse_dim=4))
    fine, coarse = found.similarity("video", "audio"), found.similarity("text", "audio")
    assert np.array_equal(fine, arrays["video", "va"] @ arrays["audio", "va"].T)
    assert np.array_equal(coarse[1:], arrays["text", "vat"][1:] @ arrays["audio", "vat"].T)
    assert np.isnan(coarse[0]).all(), "a clip without text cannot ask"
    both = found.similarity("text", "video+audio")
    assert np.allclose(both[1:], coarse[1:] + found.similarity("text", "video")[1:], atol=1e-5)


def test_what_the_graph_cannot_compare_is_refused_with_the_spaces():
    graph = build_graph("disjoint", ("video", "audio", "text"), ("va", "vt"))
    arrays = {(m, s): np.zeros((CLIPS, 4), np.float32) for s, members in graph.members.items() for m in members}
    found = Embeddings(tuple("abcdef"), arrays, graph)
    with pytest.raises(ConfigError, match="no way to compare text with audio: text is in vt and audio is in va"):
        found.similarity("text", "video+audio")
    with pytest.raises(ConfigError, match="holds 'smell', only video, audio, text"):
        found.similarity("smell", "audio")


def test_a_space_on_the_way_to_a_used_one_has_a_use():
    spaces = {"first": Space({"video": "linear"}), "last": Space({"text": "linear"})}
    graph = Graph(spaces, {"vt": "last"}, (SpaceMap("first", "last"),))
    assert graph.needed("video", ("vt",)) == ("last",)


def test_staged_fine_and_coarse_training_with_all_terms_goes_on_where_it_stopped(tmp_path):
    make_store(tmp_path / "whole")
    case = "fine and coarse, in stages"
    whole = train(tmp_path, case, name="alone")
    assert whole["cluster.queue_va"].shape[1] == 8
    assert whole["cluster.queue_vat"].shape[1] == 4, "a space's queue is as wide as the space"
    assert whole["cluster.queue_vat"].any()
    assert whole["model.maps.va_to_vat.2.num_batches_tracked"] == 4, "of 9 steps, those of the second stage"
    stop(trainer(tmp_path, case, name="stopped"), signal_number=15)
    again = train(tmp_path, case, name="stopped")
    assert all(np.array_equal(x, again[name]) for name, x in whole.items())


def test_a_frozen_modality_moves_no_statistics_of_its_heads(batch):
    model = model_of(fine_and_coarse_graph(coarse_dim=8)).train()
    freeze(model, ["video"])
    before = {name: x.clone() for name, x in model.heads["video_in_va"].named_buffers()}
    model(batch)
    assert all(torch.equal(x, before[name]) for name, x in model.heads["video_in_va"].named_buffers())
    assert model.maps["va_to_vat"][2].num_batches_tracked == 1, "the map belongs to nobody and goes on"
