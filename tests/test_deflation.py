"""Deflation: networks of clips become networks of pictures, exactly where that is possible, and nearly elsewhere."""

import copy

import pytest
import torch
from torch import nn

from mcnlab.errors import ConfigError
from mcnlab.models.deflation import answers, deflate, fit_norms, norm_parameters, relative_error, static_clips
from mcnlab.models.video3d import FramesBackbone, build_video_backbone

FRAME = (3, 16, 24)
FRAMES = 8


def settled(network, clips):
    """A network in evaluation mode whose norms have statistics of some clips, and scales and shifts of their own."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    network.train()
    for _ in range(30):
        network(clips)
    return network.eval()


def smooth_stills(count, frame):
    """Pictures with structure: coarse noise, enlarged."""
    coarse = torch.rand(count, frame[0], 4, 4)
    return nn.functional.interpolate(coarse, size=frame[1:], mode="bilinear")


def static(stills):
    """(stills, frames, channels, height, width): what a backbone of ours takes."""
    return stills[:, None].expand(-1, FRAMES, -1, -1, -1)


def backbone_and_stills(kind, padding):
    torch.manual_seed(0)
    stills = smooth_stills(96, FRAME)
    moving = torch.rand(16, FRAMES, *FRAME) * 0.3 + static(stills[:16]) * 0.7
    return settled(build_video_backbone(kind, FRAME, 32, padding), moving), stills


class Residual(nn.Module):
    """A network as others write them: a shortcut, functions of PyTorch, padding of its own."""

    def __init__(self, padding_mode):
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (3, 3, 3), stride=(1, 2, 2), padding=1, padding_mode=padding_mode)
        self.norm = nn.BatchNorm3d(8)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.body = nn.Sequential(
            nn.Conv3d(8, 8, 3, padding=1, groups=2, bias=False, padding_mode=padding_mode), nn.BatchNorm3d(8)
        )
        self.end = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 5))

    def forward(self, x):
        x = self.pool(nn.functional.relu(self.norm(self.stem(x))))
        return self.end(nn.functional.relu(x + self.body(x)))


@pytest.mark.parametrize("kind", ["conv3d", "shift"])
def test_with_frames_repeated_in_time_the_sum_of_kernels_is_exact(kind):
    backbone, stills = backbone_and_stills(kind, "replicate")
    wanted = answers(backbone, stills, to_clip=static)
    assert relative_error(answers(backbone.deflated(), stills), wanted) <= 1e-5


def test_a_picture_looks_the_same_in_every_segment():
    backbone, stills = backbone_and_stills("conv3d", "replicate")
    parts = FramesBackbone(backbone.network, 32, segments=3).eval()
    wanted = answers(parts, stills, to_clip=static)
    assert wanted.shape[1] == 96
    assert relative_error(answers(parts.deflated(), stills), wanted) <= 1e-5


def test_any_network_of_torch_modules_deflates_exactly_where_its_padding_repeats():
    torch.manual_seed(0)
    stills = smooth_stills(12, FRAME)
    network = settled(Residual("replicate"), torch.rand(8, 3, FRAMES, *FRAME[1:]))
    deflated = deflate(network)
    wanted = answers(network, stills, to_clip=lambda x: static_clips(x, frames=FRAMES))
    assert relative_error(answers(deflated, stills), wanted) <= 1e-5
    assert not any(type(module).__name__.endswith("3d") for module in deflated.modules())
    assert type(deflated) is Residual
    assert not deflated.training


@pytest.mark.parametrize("kind", ["conv3d", "shift"])
def test_with_zeros_in_time_trained_norms_are_at_most_0_6_of_naive_deflation_on_new_stills(kind):
    backbone, stills = backbone_and_stills(kind, "zeros")
    naive = backbone.deflated()
    fitted = copy.deepcopy(naive)
    losses = fit_norms(fitted, backbone, stills[:64], to_clip=static)
    wanted = answers(backbone, stills[64:], to_clip=static)
    before, after = (relative_error(answers(network, stills[64:]), wanted) for network in (naive, fitted))
    assert before > 1e-3
    assert after <= 0.6 * before
    assert losses[-1] < losses[0]


def test_any_network_with_zeros_in_time_comes_nearer_too():
    torch.manual_seed(0)
    stills = smooth_stills(96, FRAME)
    network = settled(Residual("zeros"), torch.rand(8, 3, FRAMES, *FRAME[1:]))
    naive = deflate(network)
    fitted = copy.deepcopy(naive)
    to_clip = lambda x: static_clips(x, frames=FRAMES)  # noqa: E731
    fit_norms(fitted, network, stills[:64], to_clip=to_clip)
    wanted = answers(network, stills[64:], to_clip=to_clip)
    errors = [relative_error(answers(one, stills[64:]), wanted) for one in (naive, fitted)]
    assert errors[1] <= 0.6 * errors[0]


@pytest.mark.parametrize("kind", ["conv3d", "shift"])
def test_nothing_but_scales_and_shifts_changes(kind):
    backbone, stills = backbone_and_stills(kind, "zeros")
    teacher = copy.deepcopy(backbone.state_dict())
    naive = backbone.deflated()
    fitted = copy.deepcopy(naive)
    fit_norms(fitted, backbone, stills[:64], to_clip=static, steps=20)
    trained = {id(p) for p in norm_parameters(fitted)}
    names = {name for name, p in fitted.named_parameters() if id(p) in trained}
    now, before = fitted.state_dict(), naive.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in now if name not in names)
    assert all(not torch.equal(now[name], before[name]) for name in names)
    assert all(torch.equal(x, teacher[name]) for name, x in backbone.state_dict().items())
    assert all(p.grad is None for network in (fitted, backbone) for p in network.parameters())


def test_a_deflation_that_is_exact_is_left_alone():
    backbone, stills = backbone_and_stills("conv3d", "replicate")
    naive = backbone.deflated()
    fitted = copy.deepcopy(naive)
    fit_norms(fitted, backbone, stills, to_clip=static, steps=10)
    wanted = answers(backbone, stills, to_clip=static)
    assert relative_error(answers(fitted, stills), wanted) <= 1e-5


def test_a_deflated_network_has_weights_of_its_own():
    backbone, _ = backbone_and_stills("shift", "replicate")
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    with torch.no_grad():
        for tensor in backbone.deflated().state_dict().values():
            tensor.zero_()
    assert all(torch.equal(x, before[name]) for name, x in backbone.state_dict().items())


def test_kernels_are_summed_over_time_and_all_else_is_kept():
    torch.manual_seed(0)
    module = nn.Conv3d(4, 6, (3, 5, 1), (2, 1, 3), (1, 2, 0), (1, 1, 1), groups=2)
    module.weight.requires_grad_(False)
    found = deflate(module)
    assert torch.equal(found.weight, module.weight.sum(2))
    assert torch.equal(found.bias, module.bias)
    assert (found.stride, found.padding, found.groups) == ((1, 3), (2, 0), 2)
    assert not found.weight.requires_grad
    assert found.bias.requires_grad


def test_pools_paddings_and_norms_lose_their_time():
    pool = deflate(nn.MaxPool3d((2, 3, 4), stride=2, padding=(1, 1, 2)))
    assert (pool.kernel_size, pool.stride, pool.padding) == ((3, 4), 2, (1, 2))
    assert deflate(nn.AvgPool3d((2, 3, 4))).kernel_size == (3, 4)
    assert deflate(nn.ReplicationPad3d((1, 2, 3, 4, 5, 6))).padding == (1, 2, 3, 4)
    assert deflate(nn.ConstantPad3d(1, 0.5)).value == 0.5
    assert deflate(nn.AdaptiveMaxPool3d((None, 2, 3))).output_size == (2, 3)
    norm = deflate(nn.BatchNorm3d(3, eps=0.1, momentum=0.3))
    assert (type(norm), norm.eps, norm.momentum) == (nn.BatchNorm2d, 0.1, 0.3)


def test_a_module_in_two_places_stays_one():
    shared = nn.Conv3d(2, 2, 1)
    found = deflate(nn.Sequential(shared, nn.ReLU(), shared))
    assert found[0] is found[2]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.ConvTranspose3d(1, 1, 1), r"network\.0: ConvTranspose3d has no form without time"),
        (nn.AdaptiveAvgPool3d(2), r"network\.0: a pool to 2 steps of time"),
    ],
)
def test_what_has_no_form_without_time_is_named(module, said):
    with pytest.raises(ConfigError, match=said):
        deflate(nn.Sequential(module))


def test_a_network_without_norms_cannot_be_fitted():
    with pytest.raises(ConfigError, match="no batch norm"):
        norm_parameters(nn.Conv2d(1, 1, 1))
