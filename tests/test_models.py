"""Towers, DaveNet, graphs and the model against values of the authors' released code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.errors import ConfigError
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.models.davenet import DaveNet, mean_over_time, real_steps
from mcnlab.models.graph import build_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel, parameter_count, reconstruction_target
from mcnlab.models.towers import Gate, GatedUnit, SentenceMaxPool

GOLDEN = Path(__file__).parent / "golden"
RELATIVE = 1e-9  # float64 on another machine adds up in another order


def golden(name):
    return np.load(GOLDEN / f"{name}.npz", allow_pickle=False)


def tensor(array):
    return torch.from_numpy(np.array(array))


def published_to_ours(name):
    """A parameter name of the released model in ours."""
    parts = {
        "conv1": "stem",
        "bn1": "stem_norm",
        "fc": "linear",
        "cg": "gate.gate",
    }
    pieces = name.split(".")
    if pieces[0] == "DAVEnet":
        rest = pieces[1:]
        if rest[0].startswith("layer"):
            inner = {"conv1": "body.0", "bn1": "body.1", "conv2": "body.3", "bn2": "body.4"}.get(rest[2], "shortcut")
            return ".".join(["backbones.audio.stages", str(int(rest[0][5:]) - 1), rest[1], inner, *rest[3:]])
        return ".".join(["backbones.audio", parts[rest[0]], *rest[1:]])
    if pieces[0].startswith("recon_"):
        modality = {"v": "video", "a": "audio", "t": "text"}[pieces[0][-1]]
        return f"decoders.{modality}_in_joint.{'inner' if pieces[1] == '0' else 'outer'}.{pieces[2]}"
    if pieces[0] == "text_pooling_caption":
        return f"backbones.text.linear.{pieces[2]}"
    if pieces[0] == "DAVEnet_projection":
        return f"heads.audio_in_joint.1.{pieces[1]}"
    head = {"GU_audio": "audio_in_joint.0", "GU_video": "video_in_joint", "GU_text_captions": "text_in_joint"}[
        pieces[0]
    ]
    inner = "gate.gate" if pieces[1] == "cg" else "linear"
    return f"heads.{head}.{inner}.{pieces[-1]}"


@pytest.fixture
def released():
    """The tiny model of the released forward pass, its batch and its values."""
    values = golden("net_forward")
    modalities = ("video", "audio", "text")
    sizes = ModelSizes({"video": 12, "audio": 5, "text": 6}, dim=16, audio_width=8, audio_blocks=1, decoder_hidden=5)
    graph = build_graph("shared", modalities, ("va", "vt", "at"))
    model = MultimodalModel(sizes, graph, faithful=True, decoders=True, seed=0).double()
    model.backbones["audio"] = DaveNet(5, (3, 4, 6, 8), blocks=1).double()
    weights = {
        published_to_ours(key[2:]): tensor(values[key]).reshape_as(model.state_dict()[published_to_ours(key[2:])])
        for key in values.files
        if key.startswith("w.") and "batchnorm1" not in key  # held by the release, never called
    }
    model.load_state_dict(weights)
    inputs = {modality: tensor(values[modality]) for modality in modalities}
    everywhere = torch.ones(7, dtype=torch.bool)
    batch = Batch(
        inputs,
        {"audio": tensor(values["nframes"]), "text": torch.full((7,), 6), "video": torch.ones(7, dtype=torch.int64)},
        dict.fromkeys(modalities, everywhere),
        torch.arange(7),
    )
    return model, batch, values


def errors_of(model, batch, outputs):
    total = torch.zeros(len(batch), dtype=torch.float64)
    for modality in ("video", "audio", "text"):
        target = reconstruction_target(outputs, batch, modality, detach=False)
        embedding = outputs.embeddings[modality, "joint"]
        total = total + reconstruction_error(model.reconstruct(embedding, modality=modality, space="joint"), target)
    return total


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_embeddings_and_reconstruction_agree_with_the_released_model(released, mode):
    model, batch, values = released
    model.train()
    outputs = model(batch)
    if mode == "eval":  # their evaluation came after one training pass, which moved the running statistics
        outputs = model.eval()(batch)
    for modality in ("video", "audio", "text"):
        ours = outputs.embeddings[modality, "joint"].detach().numpy()
        np.testing.assert_allclose(ours, values[f"{mode}_{modality}"], rtol=RELATIVE, atol=1e-11)
    errors = errors_of(model, batch, outputs).detach().numpy()
    np.testing.assert_allclose(errors, values[f"{mode}_recon_per_sample"], rtol=RELATIVE)


def test_the_gradient_of_reconstruction_agrees_with_the_released_model(released):
    model, batch, values = released
    model.train()
    errors = errors_of(model, batch, model(batch))
    (50 * errors.mean()).backward()
    assert (50 * errors.mean()).item() == pytest.approx(float(values["train_recon_weighted"]), rel=RELATIVE)
    named = dict(model.named_parameters())
    compared = 0
    for key in values.files:
        if key.startswith("train_grecon."):
            parameter = named[published_to_ours(key.removeprefix("train_grecon."))]
            theirs = values[key].reshape(parameter.shape)
            np.testing.assert_allclose(parameter.grad.numpy(), theirs, rtol=1e-7, atol=1e-10)
            compared += 1
    assert compared > 10


def test_running_statistics_move_as_in_the_released_model(released):
    model, batch, values = released
    model.train()
    model(batch)
    state = model.state_dict()
    for key in values.files:
        if key.startswith("after_train.") and "batchnorm1" not in key:
            ours = state[published_to_ours(key.removeprefix("after_train."))].numpy()
            np.testing.assert_allclose(ours, values[key], rtol=RELATIVE)


@pytest.mark.parametrize("case", ["geu", "geu_big"])
def test_gated_unit_agrees_with_the_released_one(case):
    values = golden("gated_units")
    unit = GatedUnit(values[f"{case}.fc.weight"].shape[1], values[f"{case}.fc.weight"].shape[0]).double()
    unit.load_state_dict(
        {
            "linear.weight": tensor(values[f"{case}.fc.weight"]),
            "linear.bias": tensor(values[f"{case}.fc.bias"]),
            "gate.gate.weight": tensor(values[f"{case}.cg.fc.weight"]),
            "gate.gate.bias": tensor(values[f"{case}.cg.fc.bias"]),
        }
    )
    x = tensor(values[f"{case}.in0"]).requires_grad_()
    out = unit(x)
    out.backward(tensor(values[f"{case}.gout"]))
    np.testing.assert_allclose(out.detach().numpy(), values[f"{case}.out"], rtol=RELATIVE, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), values[f"{case}.gin0"], rtol=RELATIVE, atol=1e-12)
    np.testing.assert_allclose(unit.linear.weight.grad.numpy(), values[f"{case}.g.fc.weight"], rtol=1e-8, atol=1e-12)


def test_gate_agrees_with_the_released_one():
    values = golden("gated_units")
    gate = Gate(values["cg.fc.weight"].shape[0]).double()
    gate.load_state_dict({"gate.weight": tensor(values["cg.fc.weight"]), "gate.bias": tensor(values["cg.fc.bias"])})
    np.testing.assert_allclose(gate(tensor(values["cg.in0"])).detach().numpy(), values["cg.out"], rtol=RELATIVE)


def test_sentence_max_pool_agrees_with_the_released_one():
    values = golden("gated_units")
    weight = values["sentmax.fc.weight"]
    pool = SentenceMaxPool(weight.shape[1], weight.shape[0]).double()
    pool.load_state_dict({"linear.weight": tensor(weight), "linear.bias": tensor(values["sentmax.fc.bias"])})
    x = tensor(values["sentmax.in0"]).requires_grad_()
    out = pool(x)
    out.backward(tensor(values["sentmax.gout"]))
    np.testing.assert_allclose(out.detach().numpy(), values["sentmax.out"], rtol=RELATIVE, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), values["sentmax.gin0"], rtol=RELATIVE, atol=1e-12)


def test_words_of_padding_do_not_count_when_lengths_are_given():
    pool = SentenceMaxPool(3, 4)
    words = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([words, torch.full((2, 2, 3), 9.0)], dim=1)
    lengths = torch.tensor([5, 5])
    torch.testing.assert_close(pool(padded, lengths), pool(words, lengths))


def test_full_width_davenet_has_the_published_number_of_parameters():
    assert parameter_count(DaveNet()) == pytest.approx(44.67e6, rel=1e-3)


@pytest.mark.parametrize(("frames", "steps"), [(1000, 63), (128, 8), (16, 1), (17, 2)])
def test_davenet_shortens_time_sixteenfold_rounded_up(frames, steps):
    out = DaveNet(40, (2, 2, 4, 4))(torch.zeros(2, 40, frames))
    assert out.shape == (2, 4, steps)


def test_mean_over_time_leaves_padding_out():
    features = torch.tensor([[[1.0, 3.0, 100.0]]])
    assert mean_over_time(features, torch.tensor([2])).item() == 2.0
    assert real_steps(torch.tensor([0, 40, 9999]), padded_frames=160, steps=10).tolist() == [1, 2, 10]


def test_a_missing_modality_gives_zero_rows_and_does_not_touch_the_others():
    sizes = ModelSizes({"video": 6, "audio": 40, "text": 5}, dim=4, audio_width=8, audio_blocks=1, decoder_hidden=4)
    graph = build_graph("shared", ("video", "audio", "text"), ("va", "vt", "at"))
    model = MultimodalModel(sizes, graph, faithful=False, decoders=False, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "video": torch.randn(3, 6, generator=generator),
        "audio": torch.randn(3, 40, 32, generator=generator),
        "text": torch.randn(3, 4, 5, generator=generator),
    }
    lengths = {"video": torch.ones(3, dtype=torch.int64), "audio": torch.full((3,), 32), "text": torch.full((3,), 4)}
    full = dict.fromkeys(inputs, torch.ones(3, dtype=torch.bool))
    some = {**full, "audio": torch.tensor([True, False, True])}
    whole = model(Batch(inputs, lengths, full, torch.arange(3))).embeddings
    holed = model(Batch(inputs, lengths, some, torch.arange(3))).embeddings
    assert not holed["audio", "joint"][1].any()
    torch.testing.assert_close(holed["audio", "joint"][[0, 2]], whole["audio", "joint"][[0, 2]])
    torch.testing.assert_close(holed["video", "joint"], whole["video", "joint"])
    torch.testing.assert_close(whole["video", "joint"].norm(dim=1), torch.ones(3))


def test_the_same_tower_starts_equal_in_every_experiment():
    sizes = ModelSizes({"video": 6, "text": 5}, dim=4, audio_width=8, audio_blocks=1, decoder_hidden=4)
    first = MultimodalModel(
        sizes, build_graph("shared", ("video", "text"), ("vt",)), faithful=False, decoders=True, seed=3
    )
    wider = ModelSizes({"video": 6, "audio": 40, "text": 5}, dim=4, audio_width=8, audio_blocks=1, decoder_hidden=4)
    graph = build_graph("shared", ("video", "audio", "text"), ("va", "vt"))
    second = MultimodalModel(wider, graph, faithful=False, decoders=False, seed=3)
    for name, parameter in first.state_dict().items():
        if not name.startswith("decoders"):
            torch.testing.assert_close(parameter, second.state_dict()[name], rtol=0, atol=0)


def test_disjoint_graph_gives_every_pair_its_own_space():
    graph = build_graph("disjoint", ("video", "audio", "text"), ("va", "vt"))
    assert graph.spaces_of("video") == ("va", "vt")
    assert graph.spaces_of("text") == ("vt",)
    assert graph.subject("video", "va") == "video@va"


def test_a_pair_without_its_modality_is_refused():
    with pytest.raises(ConfigError, match="pair 'vt' needs text"):
        build_graph("shared", ("video", "audio"), ("vt",))


def test_an_unknown_graph_is_refused():
    with pytest.raises(ConfigError, match="got 'star'"):
        build_graph("star", ("video", "audio"), ("va",))
