"""Trained motion features: any video model of transformers, from a local folder or the hub."""

import numpy as np

from mcnlab.errors import ConfigError, DataError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        import torch  # late: start-up time

        try:
            from transformers import AutoModel  # late: an extra, and seconds of start-up
        except ImportError as error:
            raise ConfigError("video-3d: a video model needs transformers; install mcnlab[resnet]") from error
        try:
            self._model = AutoModel.from_pretrained(source, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise DataError(f"video-3d: {source!r}: no model there ({' '.join(str(error).split())[:200]})") from error
        try:
            config = self._model.config
            self.frames, self.size_px, self.dim = (
                int(config.num_frames),
                int(config.image_size),
                int(config.hidden_size),
            )
        except AttributeError as error:
            raise DataError(f"video-3d: {source!r}: is no video model ({error})") from error
        self.name = f"video model {source}"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device)

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

        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255  # (n, 3, h, w)
        with torch.inference_mode():
            tokens = self._model(((planes - mean) / deviation)[None].to(self._device)).last_hidden_state
        return tokens.mean(dim=1).float().cpu().numpy()  # (1, dim)
