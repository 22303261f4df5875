"""What carries a student's features to its teacher's, and the teacher's classifier that is used again."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mcnlab.errors import ConfigError
from mcnlab.models.towers import RowNorm

MAP_AXES = 4
"""Rows, channels, height, width."""


class DistillationProjector(nn.Module):
    """Maps, or vectors, of a student as wide as those of its teacher.

    Three layers, each followed by a batch normalization and a ReLU: to the teacher's width over the factor, once more
    the same width (3 × 3 for maps), and to the teacher's width. Without biases, which the normalization would take out.

    Args:
        student: channels of the student.
        teacher: channels of the teacher.
        factor: how much narrower the layers between are; divides the teacher's channels.
        maps: for maps by convolutions; else for vectors by linear layers.
        signed: leave out the last ReLU, for features of a teacher that can be below 0.

    Raises:
        ConfigError: the factor does not divide the teacher's channels.

    Source: SimKD (Chen et al., CVPR 2022), arXiv 2203.14001, section 3.2. Difference: `signed`; vectors.

    Example:
        >>> DistillationProjector(16, 64)(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, student: int, teacher: int, *, factor: int = 2, maps: bool = True, signed: bool = False) -> None:
        super().__init__()
        if teacher % factor:
            raise ConfigError(f"factor {factor} does not divide the {teacher} channels of the teacher")
        self.student, self.teacher, self.factor, self.maps = student, teacher, factor, maps
        between = teacher // factor
        layers = [*_layer(student, between, 1, maps), *_layer(between, between, 3, maps)]
        layers += _layer(between, teacher, 1, maps)
        self.transfer = nn.Sequential(*(layers[:-1] if signed else layers))

    def forward(self, x: Float[Tensor, "rows student *places"]) -> Float[Tensor, "rows teacher *places"]:
        """The same rows and places, as wide as the teacher."""
        return self.transfer(x)

    @property
    def parameters_counted(self) -> int:
        """Numbers that training changes; see `projector_parameters`."""
        return sum(parameter.numel() for parameter in self.parameters())


def projector_parameters(student: int, teacher: int, *, factor: int = 2, maps: bool = True) -> int:
    """Parameters of a projector, which belong into every comparison of students.

    Args:
        student: channels s of the student.
        teacher: channels t of the teacher.
        factor: r.
        maps: 3 × 3 in the middle.

    Returns:
        st/r + k(t/r)² + t²/r + 4t/r + 2t, k being 9 for maps and 1 for vectors.

    Source: SimKD (Chen et al., CVPR 2022), arXiv 2203.14001, section 3.2.

    Example:
        >>> projector_parameters(6, 8, factor=4)
        88
    """
    between, kernel = teacher // factor, 9 if maps else 1
    return student * between + kernel * between**2 + teacher * between + 4 * between + 2 * teacher


class FrozenClassifier(nn.Module):
    """A linear classifier whose numbers never train: they are buffers.

    Args:
        dim: width of the features.
        classes: number of scores.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, dim))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, x: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scores of all classes."""
        return functional.linear(x, self.get_buffer("weight"), self.get_buffer("bias"))

    def take(self, weight: Float[Tensor, "classes dim"], bias: Float[Tensor, " classes"]) -> None:
        """Become another classifier, bit for bit."""
        with torch.no_grad():
            self.get_buffer("weight").copy_(weight)
            self.get_buffer("bias").copy_(bias)


def matched_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of equal height and width: the larger one is averaged down to the smaller.

    Args:
        student: (rows, channels, height, width).
        teacher: (rows, other channels, other height, other width).

    Returns:
        Both; vectors as they are.

    Source: SimKD's release; there square maps only.
    """
    if student.ndim != MAP_AXES:
        return student, teacher
    small = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return _averaged(student, small), _averaged(teacher, small)


def pooled(x: Tensor) -> Tensor:
    """Mean over the places of maps; vectors as they are."""
    return x.mean(dim=(2, 3)) if x.ndim == MAP_AXES else x


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps averaged down to a size."""
    return maps if maps.shape[2:] == size else functional.adaptive_avg_pool2d(maps, size)


def _layer(inputs: int, outputs: int, kernel: int, maps: bool) -> list[nn.Module]:
    """One layer with its normalization and ReLU."""
    if not maps:
        return [nn.Linear(inputs, outputs, bias=False), RowNorm(outputs), nn.ReLU()]
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
