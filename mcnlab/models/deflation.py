"""Deflation: from a network that sees clips to one that sees pictures, with the same weights."""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcnlab.errors import ConfigError

ToClip = Callable[[Tensor], Tensor]
"""From stills (rows, channels, height, width) to what the video network takes."""


@runtime_checkable
class Deflatable(Protocol):
    """A module that knows by itself what is left of it without time: anything whose `forward` counts axes."""

    def deflated(self) -> nn.Module:
        """The module for pictures, with weights of its own."""


def deflate(network: nn.Module) -> nn.Module:
    """The network of pictures that a network of clips becomes when nothing moves.

    Kernels are summed over time and convolutions, normalizations, pools and paddings lose their time axis; a temporal
    shift leaves its order of channels. With padding in time that repeats frames the result is exact on static clips;
    with zeros it is not, and `fit_norms` brings it nearer.

    Args:
        network: of (rows, channels, frames, height, width), made of PyTorch's modules and of those that are
            `Deflatable`; modules of one's own that do not count axes themselves are looked into. Not changed.

    Returns:
        A network of (rows, channels, height, width) with weights of its own.

    Raises:
        ConfigError: a module has no form without time; it is named.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.3.
    """
    return _still(network, "network", {})


def static_clips(stills: Float[Tensor, "rows channels height width"], *, frames: int) -> Tensor:
    """Clips in which nothing moves.

    Args:
        stills: (rows, channels, height, width).
        frames: of each clip.

    Returns:
        (rows, channels, frames, height, width), all frames in the same memory.
    """
    return stills[:, :, None].expand(-1, -1, frames, -1, -1)


def fit_norms(
    deflated: nn.Module,
    network: nn.Module,
    stills: Float[Tensor, "stills channels height width"],
    *,
    to_clip: ToClip,
    steps: int = 300,
    batch: int = 32,
    lr: float = 0.02,
    seed: int = 0,
) -> list[float]:
    """Train the scales and shifts of a deflated network's batch norms to answer stills as the video network does.

    Both networks are used as in evaluation, so that running statistics stay; nothing but scales and shifts changes,
    and these only where the answers to all stills come nearer: a deflation that is exact stays so.

    Args:
        deflated: from `deflate`; changed in place.
        network: the video network.
        stills: (stills, channels, height, width).
        to_clip: from some stills to static clips.
        steps: of Adam.
        batch: stills per step.
        lr: of the first step; it falls to 0 in a straight line.
        seed: of the order of the stills.

    Returns:
        The mean absolute difference in every step.

    Raises:
        ConfigError: `deflated` has no batch norm with a scale and a shift.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.3. The steps are our own: the paper gives none.
    """
    trained = norm_parameters(deflated)
    start = [parameter.detach().clone() for parameter in trained]
    wanted = answers(network, stills, to_clip=to_clip, batch=batch)
    error = relative_error(answers(deflated, stills), wanted)
    generator, losses = torch.Generator().manual_seed(seed), list[float]()
    optimizer = torch.optim.Adam(trained, lr=lr)
    training = deflated.training
    deflated.eval()
    for step in range(steps):
        rows = torch.randint(len(stills), (min(batch, len(stills)),), generator=generator).to(stills.device)
        loss = (deflated(stills[rows]) - wanted[rows]).abs().mean()
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    deflated.train(training)
    if not relative_error(answers(deflated, stills), wanted) < error:
        with torch.no_grad():
            for parameter, before in zip(trained, start, strict=True):
                parameter.copy_(before)
    return losses


@torch.no_grad()
def answers(network: nn.Module, stills: Tensor, *, to_clip: ToClip = lambda x: x, batch: int = 64) -> Tensor:
    """What a network makes of stills, in evaluation mode, some at a time.

    Args:
        network: its mode is restored.
        stills: (stills, channels, height, width), at least one.
        to_clip: from some stills to what the network takes.
        batch: stills at a time.

    Returns:
        (stills, …).
    """
    training = network.training
    network.eval()
    found = torch.cat([network(to_clip(part)) for part in stills.split(batch)])
    network.train(training)
    return found


def norm_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Scales and shifts of all batch norms.

    Args:
        network: any.

    Returns:
        They, each once.

    Raises:
        ConfigError: there are none.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    found = [parameter for norm in norms for parameter in norm.parameters(recurse=False)]
    if not found:
        raise ConfigError("the deflated network has no batch norm with a scale and a shift to train")
    return list(dict.fromkeys(found))


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Mean absolute difference, divided by the mean absolute value that was wanted.

    Args:
        found: any shape.
        wanted: of the same shape, not all 0.

    Returns:
        At least 0; 0 is exact.
    """
    return float((found - wanted).abs().mean() / wanted.abs().mean())


def _still(module: nn.Module, name: str, done: dict[int, nn.Module]) -> nn.Module:
    """A module for pictures; one that stands in two places stays one."""
    if id(module) not in done:
        done[id(module)] = _made(module, name, done)
    return done[id(module)]


def _made(module: nn.Module, name: str, done: dict[int, nn.Module]) -> nn.Module:
    """What becomes of a module: by itself, by a rule, or part by part."""
    if isinstance(module, Deflatable):
        return module.deflated()
    for kind, rule in _RULES.items():
        if isinstance(module, kind):
            return rule(module, name).train(module.training)
    if type(module).__module__.startswith("torch.") and type(module).__name__.endswith(("3d", "3D")):
        raise ConfigError(f"{name}: {type(module).__name__} has no form without time")
    parts = {part: child for part, child in module._modules.items() if child is not None}
    memo: dict[int, Any] = {id(child): child for child in parts.values()}  # parts are not copied here
    found = copy.deepcopy(module, memo)
    for part, child in parts.items():
        found._modules[part] = _still(child, f"{name}.{part}", done)
    return found


def _space(value: int | tuple[int, ...]) -> Any:
    """A size or stride without its time."""
    return value if isinstance(value, int) else tuple(value[-2:])


def _convolution(module: nn.Conv3d, name: str) -> nn.Conv2d:
    """Its kernels summed over time."""
    found = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        _space(module.kernel_size),
        _space(module.stride),
        module.padding if isinstance(module.padding, str) else _space(module.padding),
        _space(module.dilation),
        module.groups,
        module.bias is not None,
        module.padding_mode,
        device="meta",
    )
    found.weight = _copied(module.weight, module.weight.detach().sum(dim=2))
    if module.bias is not None:
        found.bias = _copied(module.bias, module.bias.detach().clone())
    return found


def _copied(parameter: Tensor, value: Tensor) -> nn.Parameter:
    """A parameter that trains where the other did."""
    return nn.Parameter(value, requires_grad=parameter.requires_grad)


def _norm(kind: type[nn.Module]) -> Callable[[nn.Module, str], nn.Module]:
    """The same normalization for pictures: its numbers know nothing of time."""

    def rule(module: nn.Module, name: str) -> nn.Module:
        found = kind(module.num_features, device="meta")
        for field in ("eps", "momentum", "affine", "track_running_stats"):
            setattr(found, field, getattr(module, field))
        found._parameters, found._buffers = copy.deepcopy((module._parameters, module._buffers))
        return found

    return rule


def _pool(kind: type[nn.Module], *fields: str) -> Callable[[nn.Module, str], nn.Module]:
    """A pool of pictures with the same sizes in space."""

    def rule(module: nn.Module, name: str) -> nn.Module:
        return kind(**{field: _without_time(getattr(module, field)) for field in fields})

    return rule


def _without_time(value: Any) -> Any:
    """Sizes of three axes lose the first; everything else stays."""
    return tuple(value[1:]) if isinstance(value, tuple | list) and len(value) == 3 else value


def _adaptive(kind: type[nn.Module]) -> Callable[[nn.Module, str], nn.Module]:
    """An adaptive pool, where it leaves one step of time or all."""

    def rule(module: nn.Module, name: str) -> nn.Module:
        size: Any = module.output_size
        steps = size[0] if isinstance(size, tuple | list) else size
        if steps not in (1, None):
            raise ConfigError(f"{name}: a pool to {steps} steps of time has no form without time")
        return kind(_without_time(size))

    return rule


def _padding(kind: type[nn.Module]) -> Callable[[nn.Module, str], nn.Module]:
    """Padding in space alone; PyTorch names the last axis first."""

    def rule(module: nn.Module, name: str) -> nn.Module:
        sizes: Any = module.padding
        sides = tuple(sizes[:4])
        return kind(sides, module.value) if isinstance(module, nn.ConstantPad3d) else kind(sides)

    return rule


def _dropout(module: nn.Dropout3d, name: str) -> nn.Module:
    """Whole channels of a picture."""
    return nn.Dropout2d(module.p, module.inplace)


_RULES: dict[type[nn.Module], Callable[[Any, str], nn.Module]] = {
    nn.Conv3d: _convolution,
    nn.BatchNorm3d: _norm(nn.BatchNorm2d),
    nn.InstanceNorm3d: _norm(nn.InstanceNorm2d),
    nn.MaxPool3d: _pool(nn.MaxPool2d, "kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.AvgPool3d: _pool(
        nn.AvgPool2d, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    ),
    nn.AdaptiveAvgPool3d: _adaptive(nn.AdaptiveAvgPool2d),
    nn.AdaptiveMaxPool3d: _adaptive(nn.AdaptiveMaxPool2d),
    nn.ReplicationPad3d: _padding(nn.ReplicationPad2d),
    nn.ReflectionPad3d: _padding(nn.ReflectionPad2d),
    nn.ZeroPad3d: _padding(nn.ZeroPad2d),
    nn.ConstantPad3d: _padding(nn.ConstantPad2d),
    nn.Dropout3d: _dropout,
}
"""By module of clips: how its form for pictures is made."""
