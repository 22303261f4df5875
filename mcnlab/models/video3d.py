"""Compact video backbones that train on frames: convolutions over time and space, or pictures with a temporal shift."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.models.davenet import mean_over_time, real_steps
from mcnlab.models.deflation import deflate

TimePadding = Literal["zeros", "replicate"]
"""What stands before the first frame and after the last: nothing, or that frame again."""
VideoKind = Literal["conv3d", "shift", "conv2d"]
"""How a backbone sees time; `conv2d` sees each frame by itself, and keeps its places."""

LARGEST_MAP = 6
"""Rows and columns of the map that one convolution sees whole; larger maps are averaged down to it."""
SHIFTED_SHARE = 0.125
"""Share of the channels that a temporal shift takes from the next frame, and as many from the one before."""


class FramesBackbone(nn.Module):
    """From the frames of clips to one vector per clip: a network over time, and the means of what it sees.

    Args:
        network: (rows, channels, frames, height, width) to (rows, width, steps, height', width').
        width: channels of what the network gives.
        segments: equal parts of a clip's time; the means over each stand side by side, so that what comes early can be
            told from what comes late. 1 takes the mean over the whole clip.
        keeps_places: the map has a step for every frame and many places, and is of use by itself; a ReLU then comes
            between it and the mean.
    """

    def __init__(self, network: nn.Module, width: int, segments: int = 1, *, keeps_places: bool = False) -> None:
        super().__init__()
        self.network = network
        self.segments = segments
        self.dim = width * segments
        self.keeps_places = keeps_places

    def forward(
        self, clips: Float[Tensor, "rows frames channels height width"], lengths: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows dim"]:
        """Features of some clips.

        Args:
            clips: (rows, frames, channels, height, width), 0 to 1; after the last real frame that frame again.
            lengths: (rows,), real frames; None takes all.

        Returns:
            (rows, dim): the mean over space and over the steps that real frames reach, for one segment after the other.
        """
        return self.pooled(self.maps(clips), clips.shape[1], lengths)

    def maps(
        self, clips: Float[Tensor, "rows frames channels height width"]
    ) -> Float[Tensor, "rows _width steps _height _columns"]:
        """What the network sees at every place and time, of any sign."""
        return self.network(clips.transpose(1, 2))

    def pooled(
        self,
        maps: Float[Tensor, "rows _channels steps height width"],
        frames: int,
        lengths: Int[Tensor, " rows"] | None,
    ) -> Float[Tensor, "rows dim"]:
        """The mean of maps over space and over the steps that real frames reach, for one segment after the other.

        Args:
            maps: as `maps` gives them.
            frames: of the clips, with padding.
            lengths: (rows,), real frames; None takes all.
        """
        steps = (maps.relu() if self.keeps_places else maps).mean(dim=(3, 4))  # (rows, width, steps)
        real = None
        if lengths is not None:
            real = real_steps(lengths, padded_frames=frames, steps=steps.shape[2])
        return mean_over_time(steps, real) if self.segments == 1 else segment_means(steps, real, self.segments)

    def deflated(self) -> "StillBackbone":
        """The same backbone for pictures, see `mcnlab.models.deflation`."""
        network = deflate(self.network)
        return StillBackbone(nn.Sequential(network, nn.ReLU()) if self.keeps_places else network, self.segments)


def segment_means(
    features: Float[Tensor, "rows width steps"], lengths: Int[Tensor, " rows"] | None, segments: int
) -> Float[Tensor, "rows _"]:
    """Means over equal parts of each row's real time, side by side.

    Args:
        features: (rows, width, steps).
        lengths: (rows,), int64, real steps, at least 1; None takes all steps.
        segments: parts; the j-th of N has the steps from ⌊j · n / N⌋ to below ⌈(j + 1) · n / N⌉ of n real ones, so
            that neighbors share a step where N does not divide n.

    Returns:
        (rows, segments · width): all of the first part, then all of the second.

    Source: the borders of adaptive average pooling, as torch's.
    """
    rows, _, steps = features.shape
    real = torch.full((rows,), steps, device=features.device) if lengths is None else lengths
    part = torch.arange(segments, device=features.device) * real[:, None]  # (rows, segments)
    first, last = part // segments, (part + real[:, None] + segments - 1) // segments
    step = torch.arange(steps, device=features.device)
    inside = (step >= first[..., None]) & (step < last[..., None])  # (rows, segments, steps)
    weights = inside.to(features.dtype) / (last - first)[..., None]
    return (weights @ features.transpose(1, 2)).flatten(1)


class StillBackbone(nn.Module):
    """From pictures to one vector each: what becomes of a `FramesBackbone` without time.

    Args:
        network: (rows, channels, height, width) to (rows, width, height', width').
        segments: of the video backbone; a picture looks the same in all of them.
    """

    def __init__(self, network: nn.Module, segments: int = 1) -> None:
        super().__init__()
        self.network = network
        self.segments = segments

    def forward(self, stills: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows dim"]:
        """(rows, dim): the mean over space, once for every segment."""
        return self.network(stills).mean(dim=(2, 3)).repeat(1, self.segments)


def build_video_backbone(
    kind: VideoKind,
    frame: tuple[int, int, int],
    width: int,
    padding: TimePadding,
    *,
    place_padding: TimePadding = "zeros",
    segments: int = 1,
) -> FramesBackbone:
    """A backbone with random weights.

    Args:
        kind: `conv3d`; or `shift`: pictures one by one, which exchange channels in time; or `conv2d`: pictures one by
            one, whose places are kept.
        frame: channels, height, width of a frame; 1 channel for gray, 3 for color.
        width: of the features of a segment, a multiple of 8.
        padding: in time.
        place_padding: in space, where places are kept: zeros, or the edge of the picture again.
        segments: parts of a clip's time, see `FramesBackbone`.

    Returns:
        The backbone.

    Raises:
        ConfigError: `width` is no multiple of 8.
    """
    if width < 8 or width % 8:
        raise ConfigError(f"the width of a video backbone must be a multiple of 8, got {width}")
    if kind == "conv2d":
        return FramesBackbone(
            PerFrame(picture_network(frame, width, place_padding)), width, segments, keeps_places=True
        )
    build = conv3d_network if kind == "conv3d" else shift_network
    return FramesBackbone(build(frame, width, padding), width, segments)


def conv3d_network(frame: tuple[int, int, int], width: int, padding: TimePadding) -> nn.Sequential:
    """Four convolutions over time and space, after a normalization of the frames themselves.

    The third sees the whole picture at once, so that it can tell places apart; in our trials on lips a mean over places
    found half as many sentences.

    Args:
        frame: channels, height, width of a frame.
        width: channels of the result.
        padding: in time; in space zeros.

    Returns:
        (rows, channels, frames, height, width) to (rows, width, a quarter of the frames, 1, 1).

    Source: 3D convolutions as in Tran et al. (2015), arXiv 1412.0767; sizes are our own, for small frames and a CPU.
    """
    rows, columns = last_map(frame)
    return nn.Sequential(
        nn.BatchNorm3d(frame[0]),
        conv3d_block(frame[0], width // 4, (3, 5, 5), (2, 4, 4), padding),
        conv3d_block(width // 4, width // 2, (3, 3, 3), (1, 2, 2), padding),
        nn.AdaptiveAvgPool3d((None, rows, columns)),
        conv3d_block(width // 2, width, (3, rows, columns), (1, 1, 1), padding, whole=True),
        conv3d_block(width, width, (3, 1, 1), (2, 1, 1), padding),
    )


def picture_network(frame: tuple[int, int, int], width: int, padding: TimePadding = "zeros") -> nn.Sequential:
    """Three convolutions on a picture, after a normalization of the picture itself, that keep its places.

    Args:
        frame: channels, height, width of a picture.
        width: channels of the result.
        padding: beyond the edge: zeros, which make the edges unlike all other places, or the edge again.

    Returns:
        (rows, channels, height, width) to (rows, width, ⌈height / 4⌉, ⌈width / 4⌉), of mean 0 and variance 1 over
        places: what comes before the last ReLU, as SSPL (Song et al. 2022) takes it.
    """
    return nn.Sequential(
        nn.BatchNorm2d(frame[0]),
        conv2d_block(frame[0], width // 2, (5, 5), 2, 2, padding),
        conv2d_block(width // 2, width, (3, 3), 2, 1, padding),
        nn.Conv2d(width, width, 3, padding=1, padding_mode=padding, bias=False),
        nn.BatchNorm2d(width),
    )


def last_map(frame: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of the map that the whole picture is seen in: an eighth of the frame, at most `LARGEST_MAP`."""
    rows, columns = (min(LARGEST_MAP, math.ceil(side / 8)) for side in frame[1:])
    return rows, columns


def conv3d_block(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: TimePadding,
    *,
    whole: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm, ReLU; padding keeps every position, but none in space where a kernel sees it whole."""
    time, rows, columns = (0 if whole and axis else size // 2 for axis, size in enumerate(kernel))
    block = nn.Sequential()
    if padding == "replicate":
        block.append(nn.ReplicationPad3d((0, 0, 0, 0, time, time)))
        time = 0
    block.append(nn.Conv3d(inputs, outputs, kernel, stride, (time, rows, columns), bias=False))
    return block.extend((nn.BatchNorm3d(outputs), nn.ReLU()))


def shift_network(frame: tuple[int, int, int], width: int, padding: TimePadding) -> nn.Sequential:
    """Convolutions on single frames; before each but the first, some channels move one frame in time.

    Args:
        frame: channels, height, width of a frame.
        width: channels of the result.
        padding: of the shift, at the first and the last frame.

    Returns:
        (rows, channels, frames, height, width) to (rows, width, frames, 1, 1).

    Source: Lin, Gan, Han (2019), arXiv 1811.08383, with the order of channels of Alayrac et al. (2020), see
    `TemporalShift`; sizes are our own.
    """
    rows, columns = last_map(frame)
    return nn.Sequential(
        PerFrame(nn.Sequential(nn.BatchNorm2d(frame[0]), conv2d_block(frame[0], width // 4, (5, 5), 4, 2))),
        TemporalShift(padding=padding),
        PerFrame(conv2d_block(width // 4, width // 2, (3, 3), 2, 1)),
        TemporalShift(padding=padding),
        PerFrame(
            nn.Sequential(nn.AdaptiveAvgPool2d((rows, columns)), conv2d_block(width // 2, width, (rows, columns), 1, 0))
        ),
        TemporalShift(padding=padding),
        PerFrame(conv2d_block(width, width, (1, 1), 1, 0)),
    )


def conv2d_block(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: int, padding: int, mode: TimePadding = "zeros"
) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, padding_mode=mode, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class PerFrame(nn.Module):
    """A network for pictures, applied to every frame by itself.

    Args:
        network: (rows, channels, height, width) to the same with other sizes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, clips: Float[Tensor, "rows channels frames height width"]
    ) -> Float[Tensor, "rows _ frames _height _width"]:
        """(rows, channels', frames, height', width')."""
        maps = self.network(clips.transpose(1, 2).flatten(0, 1))  # (rows · frames, channels', height', width')
        return maps.unflatten(0, (clips.shape[0], clips.shape[2])).transpose(1, 2)

    def deflated(self) -> nn.Module:
        """The network itself: a picture is one frame."""
        return deflate(self.network)


class TemporalShift(nn.Module):
    """The last channels come from the next frame, the first from the one before, and both blocks change places.

    Args:
        share: of the channels in each block, at most a half; rounded down to whole channels.
        padding: what the last and the first frame get.

    Raises:
        ConfigError: `share` is out of range.

    Source: Lin, Gan, Han (2019), arXiv 1811.08383. Difference: the order of the blocks is that of the code released
    with Alayrac et al. (2020), arXiv 2006.16228, which the weights of such a network rely on.
    """

    def __init__(self, *, share: float = SHIFTED_SHARE, padding: TimePadding = "zeros") -> None:
        super().__init__()
        if not 0 <= share <= 0.5:
            raise ConfigError(f"the share of shifted channels must be from 0 to 0.5, got {share}")
        self.share, self.padding = share, padding

    def forward(
        self, clips: Float[Tensor, "rows channels frames height width"]
    ) -> Float[Tensor, "rows channels frames height width"]:
        """Channels [last block from the next frame, middle, first block from the frame before]."""
        first, middle, last = channel_blocks(clips, self.share)
        after, before = last[:, :, -1:], first[:, :, :1]
        if self.padding == "zeros":
            after, before = torch.zeros_like(after), torch.zeros_like(before)
        later = torch.cat([last[:, :, 1:], after], dim=2)
        earlier = torch.cat([before, first[:, :, :-1]], dim=2)
        return torch.cat([later, middle, earlier], dim=1)

    def deflated(self) -> "ExchangedBlocks":
        """What is left without time: the new order of the channels."""
        return ExchangedBlocks(self.share)


class ExchangedBlocks(nn.Module):
    """The first and the last channels change places, as `TemporalShift` leaves them.

    Args:
        share: of the channels in each block.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, maps: Float[Tensor, "rows channels *space"]) -> Float[Tensor, "rows channels *space"]:
        """Channels [last block, middle, first block]."""
        first, middle, last = channel_blocks(maps, self.share)
        return torch.cat([last, middle, first], dim=1)


def channel_blocks(maps: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """The first channels, the middle, and as many last channels.

    Args:
        maps: (rows, channels, …).
        share: of the channels in the first and in the last block.

    Returns:
        Three parts; those at the ends may be empty.

    Raises:
        ShapeError: `maps` has no channels.
    """
    if maps.ndim < 2:
        raise ShapeError(f"expected (rows, channels, …), got {tuple(maps.shape)}")
    moved = int(maps.shape[1] * share)
    first, middle, last = maps.split([moved, maps.shape[1] - 2 * moved, moved], dim=1)
    return first, middle, last
