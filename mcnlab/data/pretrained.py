"""Trained networks of transformers, from a local folder or the hub, frozen."""

from typing import Any

import numpy as np

from mcnlab.errors import ConfigError, DataError

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_frozen(kind: str, source: str, *, field: str) -> Any:
    """A network with its weights, on the accelerator where there is one; only safetensors files are read.

    Args:
        kind: class of transformers, such as `ResNetModel`.
        source: a local folder or a hub id.
        field: what an error calls it.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: transformers is not installed.
        DataError: there is no such network, or its weights are not safetensors.
    """
    import torch  # late: start-up time

    try:
        import transformers  # late: an extra, and seconds of start-up
    except ImportError as error:
        raise ConfigError(f"{field}: a trained network needs transformers; install mcnlab[resnet]") from error
    transformers.utils.logging.disable_progress_bar()
    try:
        network = getattr(transformers, kind).from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{field}: {source!r}: no {kind.removesuffix('Model') or 'model'} there ({said})") from error
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def normalized_planes(frames: np.ndarray) -> Any:
    """Frames as networks that were trained on ImageNet want them.

    Args:
        frames: (frames, height, width, 3), uint8.

    Returns:
        (frames, 3, height, width), a float32 tensor.
    """
    import torch  # late: start-up time

    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return (planes - mean) / deviation
