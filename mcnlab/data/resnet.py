"""Trained frame features: a ResNet from a local folder or the hub."""

import numpy as np

from mcnlab.data.extract import checked_frames
from mcnlab.errors import ConfigError, DataError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 16


class ResNetFeatures:
    """Pooled features of a ResNet for one frame out of several, 2048 wide for ResNet-152."""

    trained = True

    def __init__(self, source: str, *, frames_per_row: int = 1, size_px: int = 224, keep_size: bool = False) -> None:
        """Load the weights; only safetensors files are read.

        Args:
            source: a local folder or a hub id such as `microsoft/resnet-152`; `resnet152` is short for that.
            frames_per_row: the first of so many frames is looked at: with a row per second as published.
            size_px: side of the square that the network sees.
            keep_size: show it the frames as they come instead; `size_px` then tells how long their shorter side is.

        Raises:
            ConfigError: transformers is not installed.
            DataError: there is no such model, or its weights are not safetensors.
        """
        import torch  # late: start-up time

        try:
            from transformers import ResNetModel  # late: an extra, and seconds of start-up
        except ImportError as error:
            raise ConfigError("video: a ResNet needs transformers; install mcnlab[resnet]") from error
        source = {"resnet152": "microsoft/resnet-152", "resnet50": "microsoft/resnet-50"}.get(source, source)
        try:
            self._model = ResNetModel.from_pretrained(source, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise DataError(f"video: {source!r}: no ResNet there ({' '.join(str(error).split())[:200]})") from error
        self.name, self.dim = f"resnet {source}", int(self._model.config.hidden_sizes[-1])
        self.frames_per_row, self.size_px, self._keep_size = frames_per_row, size_px, keep_size
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(frames, height, width, 3) uint8 -> (ceil(frames / frames_per_row), dim) float32."""
        import torch  # late: start-up time
        from torch.nn import functional

        picked = torch.from_numpy(np.ascontiguousarray(checked_frames(frames)[:: self.frames_per_row]))
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        pooled = []
        with torch.inference_mode():
            for part in picked.split(_BATCH):
                planes = part.permute(0, 3, 1, 2).float() / 255  # (n, 3, h, w)
                if not self._keep_size:
                    square = (self.size_px, self.size_px)
                    planes = functional.interpolate(planes, square, mode="bilinear", antialias=True)
                seen = ((planes - mean) / deviation).to(self._device)
                pooled.append(self._model(seen).pooler_output.flatten(1).float().cpu())
        return torch.cat(pooled).numpy()
