"""Towers that keep places, attention, and predictive coding against SSPL's released module."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.errors import ConfigError, ShapeError
from mcnlab.models.graph import build_graph
from mcnlab.models.localization.attention import attended, attention_map, averaged, similarity_map
from mcnlab.models.localization.predictive_coding import PredictiveCoding
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.models.video3d import build_video_backbone

GOLDEN = Path(__file__).parent / "golden"
PLAIN = {
    "to_sound": "PredProcess.0",
    "from_sound": "ErrorProcess.0",
    "up.0": "PredProcess.1.conv2d",
    "up.1": "PredProcess.2.conv2d",
    "down.0": "ErrorProcess.1",
    "down.1": "ErrorProcess.2.convtrans2d",
    "result": "ErrorProcess.3",
    "error_rates": "a0",
    "revise_rates": "b0",
}
"""Our names of the parts of predictive coding → those of the release."""


def golden(name):
    return {key: torch.from_numpy(x) for key, x in np.load(GOLDEN / name, allow_pickle=False).items()}


def released_name(name):
    """What the release calls a parameter."""
    part, *rest = name.split(".")
    if part in ("predicted_norms", "corrected_norms"):
        (number, level, what), per_round = rest, 2 if part == "predicted_norms" else 3
        family = "BNPred" if part == "predicted_norms" else "BNError"
        place = int(level) + max(0, int(number) - 1) * per_round
        return f"sd.{family}{'' if number == '0' else '_step'}.{place}.{what}"
    own = next(own for own in PLAIN if name.startswith(own + "."))
    return f"sd.{PLAIN[own]}{name.removeprefix(own)}"


def released_coding(values, rounds):
    coding = PredictiveCoding(8, 6, rounds=rounds).double()
    coding.load_state_dict({name: values[released_name(name)] for name in coding.state_dict()})
    return coding


@pytest.mark.parametrize("rounds", [0, 1])
def test_predictive_coding_agrees_with_the_release(rounds):
    values = golden(f"sspl_pcm_T{rounds}.npz")
    coding = released_coding(values, rounds)
    picture, sound = (values[name].clone().requires_grad_() for name in ("vis_fm", "audio"))
    found = coding.eval()(picture, sound)
    torch.testing.assert_close(found, values["out_eval"], rtol=1e-9, atol=1e-12)
    found.square().mean().backward()
    torch.testing.assert_close(picture.grad, values["grad_vis_eval"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sound.grad, values["grad_aud_eval"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(coding.train()(picture, sound), values["out_train"], rtol=1e-9, atol=1e-12)


def test_attention_agrees_with_the_release():
    values = golden("sspl_att_map.npz")
    similarity = similarity_map(values["vis_feat_map"], values["audio"])
    torch.testing.assert_close(similarity, values["sim_map"], rtol=1e-9, atol=1e-12)
    attention = attention_map(similarity)
    torch.testing.assert_close(attention, values["att_map"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(attended(values["vis_feat_map"], attention), values["fav"], rtol=1e-5, atol=1e-9)


def test_attention_points_where_the_picture_is_like_the_sound():
    features = torch.zeros(1, 2, 2, 2)
    features[0, :, 1, 0] = torch.tensor([3.0, 0.0])
    features[0, :, 0, 1] = torch.tensor([0.0, 3.0])
    attention = attention_map(similarity_map(features, torch.tensor([[1.0, 0.0]])))
    assert attention.tolist() == [[[0.0, 0.0], [1.0, 0.0]]]
    assert attended(features, attention).tolist() == [[3.0, 0.0]]
    assert attention_map(torch.full((1, 2, 2), 0.3)).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_rates_below_zero_count_as_zero():
    torch.manual_seed(0)
    coding, picture = PredictiveCoding(4, 3, rounds=1).eval(), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        for rate in coding.error_rates:
            rate.fill_(-0.5)
        still = coding(picture, torch.randn(2, 3))
        for rate in coding.error_rates:
            rate.zero_()
        assert torch.equal(still, coding(picture, torch.randn(2, 3)))  # the sound no longer reaches the picture


def test_the_sound_changes_what_the_picture_becomes_and_errors_are_told_for_every_pass():
    torch.manual_seed(0)
    coding, picture = PredictiveCoding(4, 3, rounds=2).eval(), torch.randn(2, 4, 10, 6)
    one, other = (coding.settle(picture, torch.randn(2, 3)) for _ in range(2))
    assert one.maps.shape == picture.shape
    assert one.errors.shape == (3, 2)
    assert (one.maps - other.maps).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "sounds", "message"),
    [((2, 4, 8, 6), 2, r"must be 6, 10, 14, 18 …, got \(8, 6\)"), ((2, 4, 6, 6), 1, "2 pictures but 1 sounds")],
)
def test_predictive_coding_refuses_what_does_not_fit(shape, sounds, message):
    with pytest.raises(ShapeError, match=message):
        PredictiveCoding(4, 3)(torch.zeros(shape), torch.zeros(sounds, 3))
    with pytest.raises(ConfigError, match="rounds must not be negative, got -1"):
        PredictiveCoding(4, 3, rounds=-1)


def test_a_tower_of_pictures_keeps_places_and_pools_them_over_real_frames():
    torch.manual_seed(0)
    backbone = build_video_backbone("conv2d", (3, 24, 40), 16, "replicate").eval()
    clips = torch.rand(2, 3, 3, 24, 40)
    maps = backbone.maps(clips)
    assert maps.shape == (2, 16, 3, 6, 10)
    pooled = backbone(clips, torch.tensor([3, 1]))
    torch.testing.assert_close(pooled[1], maps[1, :, 0].relu().mean(dim=(1, 2)))
    torch.testing.assert_close(backbone.deflated()(clips[:, 0])[1], pooled[1])
    assert not build_video_backbone("conv3d", (3, 24, 40), 16, "replicate").keeps_places


def test_a_model_gives_the_maps_of_the_clips_that_have_video():
    widths = {"video": 3 * 24 * 24, "audio": 40}
    sizes = ModelSizes(widths, 8, 16, 1, 8, (3, 24, 24), video_width=8, video_backbone="conv2d")
    graph = build_graph("shared", tuple(widths), ("va",))
    model = MultimodalModel(sizes, graph, faithful=False, decoders=False, seed=0).eval()
    there = torch.tensor([True, False, True])
    inputs = {"video": torch.rand(3, 2, 3, 24, 24), "audio": torch.rand(3, 40, 16)}
    lengths = {"video": torch.tensor([2, 0, 2]), "audio": torch.tensor([16, 16, 16])}
    batch = Batch(inputs, lengths, {"video": there, "audio": lengths["audio"] > 0}, torch.arange(3))
    outputs = model(batch)
    assert list(outputs.maps) == ["video"]
    assert outputs.maps["video"].shape == (3, 2, 8, 6, 6)
    assert outputs.maps["video"][1].eq(0).all()
    expected = outputs.maps["video"][2].relu().mean(dim=(0, 2, 3))
    torch.testing.assert_close(outputs.features["video"][2], expected)


def test_a_place_averages_the_square_around_it_as_far_as_there_is_one():
    features = torch.zeros(1, 1, 3, 3)
    features[0, 0, 0, 0] = 36.0
    assert averaged(features, 3)[0, 0].tolist() == [[9.0, 6.0, 0.0], [6.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert averaged(features, 1) is features


def test_the_edge_is_like_any_other_place_where_it_is_seen_again():
    frame = torch.full((1, 1, 3, 24, 24), 0.7)
    for padding, alike in (("replicate", True), ("zeros", False)):
        torch.manual_seed(0)
        backbone = build_video_backbone("conv2d", (3, 24, 24), 16, "replicate", place_padding=padding).eval()
        maps = backbone.maps(frame)
        assert torch.allclose(maps, maps[..., 2:3, 2:3].expand_as(maps), atol=1e-5) == alike
