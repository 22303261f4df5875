"""Released state dicts: they fill our towers, compute what the release computes, and nothing is dropped in silence."""

import os
import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mcnlab.batch import Batch
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment import ExperimentSettings, load_run, read_experiment, run_experiment
from mcnlab.experiment.build import prefix_keys, short_hash
from mcnlab.experiment.folder import run_key
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.models.davenet import DaveNet
from mcnlab.models.graph import build_graph, disjoint_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel, reconstruction_target
from mcnlab.models.published import check_published_weights, load_published_weights, our_name
from tests.armed_pickles import Call
from tests.mini_study import BASE
from tests.small_store import make_store

GOLDEN = Path(__file__).parent / "golden" / "net_forward.npz"
MODALITIES = ("video", "audio", "text")
NEVER_CALLED = "DAVEnet.batchnorm1"


def golden():
    return np.load(GOLDEN, allow_pickle=False)


def released_state():
    """The golden model's state dict, as `torch.save` of the released network would hold it."""
    values = golden()
    return {key[2:]: torch.from_numpy(np.array(values[key])) for key in values.files if key.startswith("w.")}


def golden_model(*, decoders=True, modalities=MODALITIES):
    """Our model in the golden model's sizes, with other weights."""
    widths = {"video": 12, "audio": 5, "text": 6}
    sizes = ModelSizes({m: widths[m] for m in modalities}, dim=16, audio_width=8, audio_blocks=1, decoder_hidden=5)
    graph = build_graph("shared", modalities, ("vt",) if "audio" not in modalities else ("va", "vt", "at"))
    model = MultimodalModel(sizes, graph, faithful=True, decoders=decoders, seed=3).double()
    if "audio" in modalities:
        model.backbones["audio"] = DaveNet(5, (3, 4, 6, 8), blocks=1).double()
    return model


def golden_batch():
    values = golden()
    inputs = {modality: torch.from_numpy(np.array(values[modality])) for modality in MODALITIES}
    lengths = {"audio": torch.from_numpy(np.array(values["nframes"])), "text": torch.full((7,), 6)}
    lengths["video"] = torch.ones(7, dtype=torch.int64)
    here = torch.ones(7, dtype=torch.bool)
    return Batch(inputs, lengths, dict.fromkeys(MODALITIES, here), torch.arange(7))


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_file_computes_what_the_release_computes(tmp_path, prefix, wrap, zipped):
    state = wrap({prefix + name: value for name, value in released_state().items()})
    path = saved(tmp_path / "mcn.pth", state, _use_new_zipfile_serialization=zipped)
    model, batch, values = golden_model(), golden_batch(), golden()
    weights = load_published_weights(path, model)
    assert weights.missing == ()
    assert {name.rpartition(".")[0] for name in weights.left_over} == {NEVER_CALLED}
    assert set(weights.loaded) == set(model.state_dict())
    for mode in ("train", "eval"):  # their evaluation came after one training pass, which moved the running statistics
        outputs = model.train(mode == "train")(batch)
        error = torch.zeros(7, dtype=torch.float64)
        for modality in MODALITIES:
            embedding = outputs.embeddings[modality, "joint"]
            np.testing.assert_allclose(embedding.detach().numpy(), values[f"{mode}_{modality}"], rtol=1e-9, atol=1e-11)
            given_back = model.reconstruct(embedding, modality=modality, space="joint")
            error += reconstruction_error(given_back, reconstruction_target(outputs, batch, modality, detach=False))
        np.testing.assert_allclose(error.detach().numpy(), values[f"{mode}_recon_per_sample"], rtol=1e-9)


def test_every_released_name_has_a_place_of_its_own_but_the_one_that_is_never_called():
    names = list(released_state())
    ours = [our_name(name) for name in names if NEVER_CALLED not in name]
    assert None not in ours
    assert len(set(ours)) == len(ours)
    assert [our_name(name) for name in names if NEVER_CALLED in name] == [None] * 5


def test_what_is_missing_keeps_its_first_values_and_is_listed():
    state = {name: value for name, value in released_state().items() if not name.startswith(("recon_", "GU_text"))}
    model, before = golden_model(), golden_model().state_dict()
    weights = load_published_weights(state, model)
    assert len(weights.missing) == 3 * 4 + 4
    for name in weights.missing:
        assert name.startswith(("decoders.", "heads.text_in_joint."))
        assert torch.equal(model.state_dict()[name], before[name])
    assert weights.lines()[0].startswith("16 tensors keep their first values, the file lacks heads.text_in_joint.")
    assert weights.lines()[0].endswith("and 11 more")


def test_what_is_left_over_is_listed():
    weights = load_published_weights({**released_state(), "fc_extra.weight": torch.ones(2)}, golden_model())
    assert "fc_extra.weight" in weights.left_over
    small = golden_model(decoders=False, modalities=("video", "text"))
    weights = load_published_weights(released_state(), small)
    assert weights.missing == ()
    assert {name.split(".")[0].split("_")[0] for name in weights.left_over} == {"DAVEnet", "GU", "recon"}
    assert any("have no place in the model" in line for line in weights.lines())


def test_a_check_changes_nothing():
    model = golden_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = check_published_weights(released_state(), model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found == load_published_weights(released_state(), model)
    assert not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("GU_video.fc.weight", (16, 13), "GU_video.fc.weight has shape (16, 13), the model wants (16, 12)"),
        ("DAVEnet.conv1.weight", (3, 1, 7, 1), "has shape (3, 1, 7, 1), the model wants (3, 1, 5, 1)"),
        ("DAVEnet.layer2.0.conv1.weight", (4, 3, 9, 1), "has shape (4, 3, 9, 1), the model wants (4, 3, 1, 9)"),
        ("recon_t.2.bias", (4096,), "has shape (4096,), the model wants (16,)"),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both_shapes_and_nothing_is_changed(tmp_path, name, shape, said):
    model = golden_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = saved(tmp_path / "mcn.pth", {**released_state(), name: torch.zeros(shape)})
    with pytest.raises(DataError) as refusal:
        load_published_weights(path, model)
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert our_name(name) in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"GU_video.fc.weight": torch.full((16, 12), float("nan"))},
            "GU_video.fc.weight holds values that are not finite",
        ),
        ({"resnet.weight": torch.zeros(2)}, "none of its 1 tensors is known; the first is 'resnet.weight'"),
        ({}, "expected tensors by name"),
        ([torch.zeros(2)], "expected tensors by name, got list"),
        ({"GU_video.fc.weight": 3}, "is of type int, expected a tensor"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "with and without 'module.'"),
    ],
)
def test_a_file_of_something_else_is_one_clear_error(tmp_path, content, said):
    with pytest.raises(DataError) as refusal:
        load_published_weights(saved(tmp_path / "mcn.pth", content), golden_model())
    assert said in str(refusal.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_wants_to_run_something_is_refused_by_name(tmp_path, zipped):
    marker = tmp_path / "marker"
    state = {**released_state(), "armed": Call(os.system, f"touch '{marker}'")}
    path = saved(tmp_path / "armed.pth", state, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"armed\.pth: refused, .*'posix\.system'") as refusal:
        load_published_weights(path, golden_model())
    said_in_full = "".join(traceback.format_exception(refusal.value))
    assert "trusted source" not in said_in_full  # torch's own text says how to switch safety off
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken", b"\x80\x02}q\x00."])
def test_a_damaged_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.pth"):
        load_published_weights(path, golden_model())
    with pytest.raises(DataError, match="cannot be read"):
        load_published_weights(tmp_path / "gone.pth", golden_model())


def test_a_graph_of_several_spaces_is_refused():
    model = MultimodalModel(
        ModelSizes({"video": 12, "text": 6}, dim=16), disjoint_graph(["vt"]), faithful=True, decoders=False, seed=0
    )
    with pytest.raises(ConfigError, match="not shared"):
        load_published_weights(released_state(), model)


def small_release(*, video=16, bands=40, words=8, dim=8, width=8):
    """A state dict with the released names in the sizes of the small store's model, its decoders left out."""
    drawn = torch.Generator().manual_seed(5)
    widths = [width // 8, width // 4, width // 2, width]
    shapes = {"DAVEnet.conv1.weight": (widths[0], 1, bands, 1), "text_pooling_caption.fc.weight": (dim, words)}
    shapes |= {"text_pooling_caption.fc.bias": (dim,), "DAVEnet_projection.weight": (dim, width)}
    shapes |= {"DAVEnet_projection.bias": (dim,)}
    norms = {"DAVEnet.bn1": widths[0]}
    for stage, (narrow, wide) in enumerate(zip([widths[0], *widths], widths, strict=False), start=1):
        block = f"DAVEnet.layer{stage}.0"
        shapes |= {f"{block}.conv1.weight": (wide, narrow, 1, 9), f"{block}.conv2.weight": (wide, wide, 1, 9)}
        shapes |= {f"{block}.downsample.0.weight": (wide, narrow, 1, 1)}
        norms |= {f"{block}.{name}": wide for name in ("bn1", "bn2", "downsample.1")}
    for unit, wide, narrow in (("GU_video", dim, video), ("GU_audio", width, width), ("GU_text_captions", dim, dim)):
        shapes |= {f"{unit}.fc.weight": (wide, narrow), f"{unit}.fc.bias": (wide,)}
        shapes |= {f"{unit}.cg.fc.weight": (wide, wide), f"{unit}.cg.fc.bias": (wide,)}
    for name, wide in norms.items():
        shapes |= {f"{name}.{part}": (wide,) for part in ("weight", "bias", "running_mean")}
    state = {name: torch.randn(shape, generator=drawn) * 0.1 for name, shape in shapes.items()}
    return state | {f"{name}.running_var": torch.rand(wide, generator=drawn) + 0.5 for name, wide in norms.items()}


@pytest.fixture
def experiment(tmp_path):
    """File of an experiment that starts from released weights and takes one step at learning rate 0."""
    make_store(tmp_path / "store")
    saved(tmp_path / "mcn.pth", {f"module.{name}": value for name, value in small_release().items()})
    training = {**BASE["training"], "epochs": 1, "max_steps": 1, "warmup_steps": 1, "device": "cpu"}
    settings = {
        **BASE,
        "experiment": "released",
        "mode": "faithful",
        "stages": "VAT",
        "data": {"store": "store"},
        "model": {**BASE["model"], "weights": "mcn.pth"},
        "training": training,
        "evaluation": {"tasks": ["retrieval"]},
    }
    path = tmp_path / "released.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_a_run_starts_from_released_weights_and_says_so(experiment, tmp_path):
    run = run_experiment(experiment, tmp_path / "run")
    weights = load_run(run.path).model().state_dict()
    release = small_release()
    for name, value in release.items():
        if "running" not in name:  # the one step moved these
            assert torch.equal(weights[our_name(name)].flatten(), value.flatten()), name
    known = run.provenance["weights"]
    assert known["path"] == str(tmp_path / "mcn.pth")
    assert (
        known["sha256"] == read_experiment(experiment).model.weights_sha256 == run.settings["model"]["weights_sha256"]
    )
    assert any("mcn.pth: 13 tensors keep their first values" in note for note in run.outcome["notes"])


def test_another_file_under_the_same_name_is_another_run(experiment, tmp_path):
    run_experiment(experiment, tmp_path / "run")
    first = read_experiment(experiment)
    done = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert run_experiment(experiment, tmp_path / "run").finished
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == done
    changed = small_release()
    changed["GU_video.fc.bias"] += 1
    saved(tmp_path / "mcn.pth", changed)
    with pytest.raises(ConfigError, match="with other settings"):
        run_experiment(experiment, tmp_path / "run")
    with pytest.raises(DataError, match="its content has changed"):
        run_experiment(first, tmp_path / "run")
    second = read_experiment(experiment)
    assert run_key(first, 0) != run_key(second, 0)
    assert prefix_keys(first, fingerprint="x", seed=0) != prefix_keys(second, fingerprint="x", seed=0)


def test_the_same_file_elsewhere_is_the_same_run_and_a_finished_run_needs_it_no_longer(experiment, tmp_path):
    run_experiment(experiment, tmp_path / "run")
    first = read_experiment(experiment)
    shutil.move(tmp_path / "mcn.pth", tmp_path / "moved.pth")
    moved = read_experiment(experiment, overrides=["model.weights=moved.pth"])
    assert run_key(first, 0) == run_key(moved, 0)
    assert run_experiment(first, tmp_path / "run").finished
    with pytest.raises(DataError, match=r"model\.weights: .*mcn\.pth: no such file"):
        read_experiment(experiment)


def test_settings_that_were_added_later_leave_the_key_as_it_was():
    plain = {"experiment": "a", "data": {"store": "store"}, "stages": "VT"}
    settings = ExperimentSettings.parse(plain, source="test")
    known = settings.model_dump(mode="json")
    for setting in ("weights", "weights_sha256", "coarse_dim", "heads"):
        assert not known["model"].pop(setting)
    for setting in ("video_frames", "video_width", "video_backbone", "video_padding", "video_segments"):
        known["model"].pop(setting)
    for setting in ("segments", "place_window", "place_padding"):
        known["model"].pop(setting)
    for setting in ("stores", "shuffle", "missing", "changes", "candidates"):
        known["data"].pop(setting)
    for setting in ("kinds", "scenes", "looks", "least_area", "shade", "label", "classes_per_batch"):
        known["data"].pop(setting)
    for setting in ("learn_temperature", "bank", "pair_weights", "scorer"):
        known["terms"]["contrast"].pop(setting)
    for term in ("predict", "detect", "explain", "localize", "classify", "metric", "guide", "distill"):
        known["terms"].pop(term)
    for setting in ("threads", "checkpoint_every", "keep_every", "keep_best", "prefetch"):
        known["training"].pop(setting)
    for setting in ("chunk", "chunk_statistics", "compile", "deterministic"):
        known["training"].pop(setting)
    known["evaluation"].pop("network")
    assert run_key(settings, 7) == short_hash({"settings": known, "seed": 7})


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["model.dim=16"], DataError, "has shape"),
        (["graph=disjoint"], ConfigError, "need graph: shared"),
        (["model.weights=gone.pth"], DataError, "no such file"),
        (["model.weights=store"], DataError, "no such file"),
        (["model.weights=released.yaml"], DataError, "released.yaml"),
        ([f"model.weights_sha256={'f' * 64}"], DataError, "the settings say fff"),
        (["model.weights=null", f"model.weights_sha256={'f' * 64}"], ConfigError, "without weights"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_any_work(experiment, tmp_path, overrides, error, said):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error) as refusal:
        run_experiment(experiment, tmp_path / "run", overrides=overrides)
    assert said in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# weights of our own runs


@pytest.mark.parametrize("graph", ["shared", "disjoint"])
def test_a_run_is_fine_tuned_from_another_run(tmp_path, graph):
    make_store(tmp_path / "store")
    values = {
        **BASE,
        "experiment": "first",
        "stages": "VAT",
        "graph": graph,
        "data": {"store": str(tmp_path / "store")},
    }
    first = run_experiment(ExperimentSettings.parse(values, source="test"), tmp_path / "first").path
    weights = sorted((first / "checkpoints").glob("step_*"))[-1] / "model.safetensors"
    still = {**BASE["training"], "max_steps": 1, "warmup_steps": 1}  # the first step of a warm-up has no rate
    tuned = {**values, "model": {**BASE["model"], "weights": str(weights)}, "training": still}
    second = run_experiment(ExperimentSettings.parse(tuned, source="test"), tmp_path / "second")
    ours, theirs = (dict(load_run(run).model().named_parameters()) for run in (first, second.path))
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=0)
    assert second.outcome["notes"] == []


def test_weights_of_a_run_of_another_width_are_refused_before_any_work(tmp_path):
    make_store(tmp_path / "store")
    values = {**BASE, "experiment": "first", "stages": "VT", "data": {"store": str(tmp_path / "store")}}
    first = run_experiment(ExperimentSettings.parse(values, source="test"), tmp_path / "first").path
    weights = sorted((first / "checkpoints").glob("step_*"))[-1] / "model.safetensors"
    wide = {**values, "model": {**BASE["model"], "dim": 12, "weights": str(weights)}}
    with pytest.raises(DataError, match=r"model.safetensors: .* has shape \(8,.*the model wants \(12,"):
        run_experiment(ExperimentSettings.parse(wide, source="test"), tmp_path / "second")
    assert not (tmp_path / "second").exists()
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    broken = {**values, "model": {**BASE["model"], "weights": str(tmp_path / "broken.safetensors")}}
    with pytest.raises(DataError, match="not a readable safetensors file"):
        run_experiment(ExperimentSettings.parse(broken, source="test"), tmp_path / "second")
