"""Weights to start from: those that the authors of MCN and AVLnet released, in the places of our towers, or our own."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mcnlab.errors import ConfigError, DataError, reading_error
from mcnlab.models.graph import SHARED_SPACE
from mcnlab.models.multimodal import MultimodalModel

SHOWN = 5
"""Names that a line shows before it says how many more there are."""
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_BLOCK = {
    "conv1": "body.0",
    "bn1": "body.1",
    "conv2": "body.3",
    "bn2": "body.4",
    "downsample.0": "shortcut.0",
    "downsample.1": "shortcut.1",
}
_GATED = {"fc": "linear", "cg.fc": "gate.gate"}
_HEADS = {
    "GU_video": f"heads.video_in_{SHARED_SPACE}",
    "GU_audio": f"heads.audio_in_{SHARED_SPACE}.0",
    "GU_text_captions": f"heads.text_in_{SHARED_SPACE}",
}
_MODALITIES = {"v": "video", "a": "audio", "t": "text"}
_PLACES = {
    "DAVEnet.conv1": "backbones.audio.stem",
    "DAVEnet.bn1": "backbones.audio.stem_norm",
    "DAVEnet_projection": f"heads.audio_in_{SHARED_SPACE}.1",
    "text_pooling_caption.fc": "backbones.text.linear",
    **{f"{unit}.{part}": f"{head}.{ours}" for unit, head in _HEADS.items() for part, ours in _GATED.items()},
    **{
        f"recon_{letter}.{layer}": f"decoders.{modality}_in_{SHARED_SPACE}.{ours}"
        for letter, modality in _MODALITIES.items()
        for layer, ours in (("0", "inner"), ("2", "outer"))
    },
}
_RESIDUAL = re.compile(rf"DAVEnet\.layer([1-4])\.(\d+)\.({'|'.join(map(re.escape, _BLOCK))})")


@dataclass(frozen=True)
class PublishedWeights:
    """What became of a released state dict."""

    loaded: tuple[str, ...]
    """Our names of the tensors that were filled."""
    missing: tuple[str, ...]
    """Our names of the tensors that the file lacks; they keep their first values."""
    left_over: tuple[str, ...]
    """Names in the file that have no place in the model."""

    def lines(self) -> list[str]:
        """One sentence for what is missing and one for what is left over, names cut after the fifth."""
        sentences = []
        if self.missing:
            sentences.append(
                f"{len(self.missing)} tensors keep their first values, the file lacks {_some(self.missing)}"
            )
        if self.left_over:
            sentences.append(
                f"{len(self.left_over)} tensors of the file have no place in the model: {_some(self.left_over)}"
            )
        return sentences


def load_published_weights(source: Path | str | Mapping[str, Any], model: MultimodalModel) -> PublishedWeights:
    """Fill a model with a released state dict, or with the weights of a run of ours.

    In faithful mode, with the published sizes, the model then computes what the released one computes. In sound mode
    the same numbers go through normalized embeddings and masked pooling, for which they were not trained.

    Args:
        source: a `.pth` file, read with weights-only loading, or the state dict itself; names may begin with `module.`
            and the dictionary may lie under `state_dict`. Or the `model.safetensors` of a run's checkpoint, for
            fine-tuning, whose names are our own.
        model: of a shared graph where the weights are released ones; changed in place, and only when everything fits.

    Returns:
        What was loaded, what the file lacks, and what it has beyond the model. The release's input normalization of
        DaveNet (`DAVEnet.batchnorm1`) is always left over: its forward pass never calls it.

    Raises:
        DataError: the file is missing, damaged, or more than plain tensors; none of its names is known; or a tensor
            has another shape than the model's or is not finite (it is named, with both shapes).
        ConfigError: the model's graph is not shared, so there is no one space for the weights.

    Source: parameter names of the released code of MCN (Chen et al., 2021), arXiv 2104.12671, and AVLnet (2020),
    arXiv 2006.09199. Difference: convolutions over a one-channel picture become convolutions over time, by dropping
    the axis of length 1.
    """
    filled, weights = _fitted(source, model)
    model.load_state_dict(filled, strict=False)
    return weights


def check_published_weights(source: Path | str | Mapping[str, Any], model: MultimodalModel) -> PublishedWeights:
    """What `load_published_weights` would do, without doing it.

    Args:
        source: as there.
        model: as there; it may lie on torch's `meta` device, where it takes no memory.

    Returns:
        As there.

    Raises:
        DataError: as there.
        ConfigError: as there.
    """
    return _fitted(source, model)[1]


def our_name(published: str) -> str | None:
    """The name in our model of a tensor in a released state dict.

    Args:
        published: its name, without `module.`.

    Returns:
        Our name; None where the model has no such part.

    Example:
        >>> our_name("GU_video.cg.fc.weight")
        'heads.video_in_joint.gate.gate.weight'
    """
    part, _, kind = published.rpartition(".")
    residual = _RESIDUAL.fullmatch(part)
    if residual is not None:
        stage, block, layer = residual.groups()
        return f"backbones.audio.stages.{int(stage) - 1}.{block}.{_BLOCK[layer]}.{kind}"
    return f"{_PLACES[part]}.{kind}" if part in _PLACES else None


def _fitted(
    source: Path | str | Mapping[str, Any], model: MultimodalModel
) -> tuple[dict[str, Tensor], PublishedWeights]:
    """Checked tensors by our names and in our shapes, and an account of them."""
    if not isinstance(source, Mapping) and is_own(Path(source)):
        return _fitted_own(Path(source), model)
    if set(model.graph.members) != {SHARED_SPACE}:
        raise ConfigError("published weights have one space for all modalities, the model's graph is not shared")
    where = "state dict" if isinstance(source, Mapping) else str(source)
    published = _state_dict(where, source if isinstance(source, Mapping) else _read(Path(source)))
    own = model.state_dict()
    places = {name: ours for name in published if (ours := our_name(name)) in own}
    if not places:
        first = next(iter(published))
        raise DataError(f"{where}: none of its {len(published)} tensors is known; the first is {first!r:.80}")
    _check(where, {name: (published[name], ours, own[ours]) for name, ours in places.items()})
    filled = {ours: published[name].reshape(own[ours].shape) for name, ours in places.items()}
    missing = tuple(name for name in own if name not in filled)
    left_over = tuple(name for name in published if name not in places)
    return filled, PublishedWeights(tuple(filled), missing, left_over)


def is_own(path: Path) -> bool:
    """Whether a file of weights is from a run of ours, by its suffix.

    Args:
        path: the file.

    Returns:
        True for `.safetensors`.
    """
    return path.suffix == ".safetensors"


def _fitted_own(path: Path, model: MultimodalModel) -> tuple[dict[str, Tensor], PublishedWeights]:
    """Checked tensors of a checkpoint of ours that have a place in the model, and an account of all."""
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise reading_error(error)(
            f"{path}: not a readable safetensors file ({' '.join(str(error).split())[:200]})"
        ) from error
    own = model.state_dict()
    filled = {name: tensor for name, tensor in tensors.items() if name in own}
    if not filled:
        raise DataError(f"{path}: none of its {len(tensors)} tensors has a place in the model")
    for name, tensor in filled.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model wants {tuple(own[name].shape)}"
            raise DataError(f"{path}: {name} has shape {shapes}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds values that are not finite")
    missing, left_over = (tuple(name for name in a if name not in b) for a, b in ((own, filled), (tensors, filled)))
    return filled, PublishedWeights(tuple(filled), missing, left_over)


def _read(path: Path) -> Any:
    """Content of a torch file that holds nothing but plain tensors."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise reading_error(error)(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:  # torch's text tells how to switch safety off: not in a traceback either
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        named = f"it wants {wanted.group(1)!r}" if wanted else "it is no torch file"
        raise DataError(f"{path}: refused, since it is more than plain tensors: {named}") from None
    except (RuntimeError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a readable torch file ({type(error).__name__})") from error


def _state_dict(where: str, content: Any) -> dict[str, Tensor]:
    """Tensors by released name, without wrappers round the dictionary or the names."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{where}: expected tensors by name, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(f"{where}: {name!r:.80} is of type {type(value).__name__}, expected a tensor")
    plain = {name.removeprefix("module."): value for name, value in content.items()}
    if len(plain) < len(content):
        raise DataError(f"{where}: a name stands there with and without 'module.'")
    return plain


def _check(where: str, pairs: Mapping[str, tuple[Tensor, str, Tensor]]) -> None:
    """Raise when a tensor does not fit its place."""
    for name, (theirs, ours, own) in pairs.items():
        wanted = _published_shape(name, tuple(own.shape))
        if tuple(theirs.shape) != wanted:
            raise DataError(f"{where}: {name} has shape {tuple(theirs.shape)}, the model wants {wanted} (for {ours})")
        if theirs.layout != torch.strided or not bool(theirs.isfinite().all()):
            raise DataError(f"{where}: {name} holds values that are not finite")


def _published_shape(name: str, own: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the release gives to a tensor of ours: its convolutions run over pictures."""
    if len(own) != 3:
        return own
    out_channels, in_channels, width = own
    return (
        (out_channels, 1, in_channels, width)
        if name == "DAVEnet.conv1.weight"
        else (out_channels, in_channels, 1, width)
    )


def _some(names: tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(f'{name:.80}' for name in names[:SHOWN])}{more}"
