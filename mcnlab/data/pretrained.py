"""Trained networks of transformers, from a local folder or the hub, frozen."""

import re
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.errors import ConfigError, DataError

HUB_PATIENCE_S = 8.0
"""Seconds until a hub that does not answer counts as out of reach."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_frozen(kind: str, source: str, *, field: str) -> Any:
    """A network with its weights, on the accelerator where there is one; only safetensors files are read.

    What lies on this machine is taken first, a folder or what the hub gave before; the hub is asked once whether it is
    there before anything is fetched, so that a machine without network hears so within seconds.

    Args:
        kind: class of transformers, such as `ResNetModel`.
        source: a local folder or a hub id.
        field: what an error calls it.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: transformers is not installed.
        DataError: there is no such network, the hub cannot be reached, or its weights are not safetensors.
    """
    import torch  # late: start-up time

    try:
        import transformers  # late: an extra, and seconds of start-up
    except ImportError as error:
        raise ConfigError(f"{field}: a trained network needs transformers; install mcnlab[resnet]") from error
    transformers.utils.logging.disable_progress_bar()
    load, what = getattr(transformers, kind).from_pretrained, kind.removesuffix("Model") or "model"
    try:
        network = load(source, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError) as error:
        if not Path(source).exists() and not _HUB_ID.fullmatch(source):
            raise DataError(f"{field}: {source!r}: no {what} there (no such folder, and no id of the hub)") from error
        if Path(source).exists():
            said = textwrap.shorten(str(error), 200, placeholder=" …")
            raise DataError(f"{field}: {source!r}: no {what} there ({said})") from error
        _refuse_without_hub(source, field, what)
        try:
            network = load(source, use_safetensors=True)
        except (OSError, ValueError) as fetched:
            said = textwrap.shorten(str(fetched), 200, placeholder=" …")
            raise DataError(f"{field}: {source!r}: no {what} there ({said})") from fetched
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _refuse_without_hub(source: str, field: str, what: str) -> None:
    """Ask the hub once for a model, and raise when it does not know it, or does not answer in time."""
    reason = _why_no_hub(source)
    if reason:
        raise DataError(
            f"{field}: {source!r}: no such folder, no copy of it on this machine, and {reason}; give the path of a "
            f"local folder with config.json and model.safetensors of a {what} instead"
        )


def _why_no_hub(source: str) -> str:
    """Why a model cannot be fetched; empty where it can."""
    import huggingface_hub  # late: it comes with transformers, an extra
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to fetch it"
    asking = ThreadPoolExecutor(1, thread_name_prefix="mcnlab-hub")
    answer = asking.submit(huggingface_hub.HfApi().model_info, source, timeout=HUB_PATIENCE_S)
    asking.shutdown(wait=False)
    try:  # names that do not resolve can take longer than the request's own limit
        problem = answer.exception(HUB_PATIENCE_S)
    except TimeoutError:
        return f"{constants.ENDPOINT} does not answer within {HUB_PATIENCE_S:g} s"
    if isinstance(problem, huggingface_hub.errors.RepositoryNotFoundError):
        return "the hub knows no such model, or keeps it private"
    return f"{constants.ENDPOINT} cannot be reached ({type(problem).__name__})" if problem else ""


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
