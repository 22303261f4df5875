"""Trained motion features: any video model of transformers, from a local folder or the hub."""

import numpy as np

from mcnlab.data.pretrained import load_frozen, normalized_planes
from mcnlab.errors import DataError


class VideoModelFeatures:
    """One row per window of frames: the mean over all tokens of a video transformer's last layer."""

    rate_hz = 24.0
    """Frames per second that windows are made of, as in the published 3D features."""

    def __init__(self, source: str) -> None:
        """Load the weights; only safetensors files are read.

        Args:
            source: a local folder or a hub id, such as `MCG-NJU/videomae-base`; its configuration must state
                `num_frames`, `image_size` and `hidden_size`.

        Raises:
            ConfigError: transformers is not installed.
            DataError: there is no such model, its weights are not safetensors, or it is no video model.
        """
        self._model = load_frozen("AutoModel", source, field="video-3d")
        try:
            config = self._model.config
            self.frames, self.size_px = int(config.num_frames), int(config.image_size)
            self.dim = int(config.hidden_size)
        except AttributeError as error:
            raise DataError(f"video-3d: {source!r}: is no video model ({error})") from error
        self.name = f"video model {source}"

    @property
    def rows_per_s(self) -> float:
        """Rows per second: windows follow each other without overlap."""
        return self.rate_hz / self.frames

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """One row for one window.

        Args:
            frames: (frames, size, size, 3), uint8.

        Returns:
            (1, dim), float32.
        """
        import torch  # late: start-up time

        with torch.inference_mode():
            window = normalized_planes(frames)[None].to(self._model.device)  # (1, frames, 3, size, size)
            tokens = self._model(window).last_hidden_state
        return tokens.mean(dim=1).float().cpu().numpy()  # (1, dim)
