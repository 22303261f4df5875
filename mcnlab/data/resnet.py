"""Trained frame features: a ResNet from a local folder or the hub."""

import numpy as np

from mcnlab.data.extract import checked_frames
from mcnlab.data.pretrained import load_frozen, normalized_planes

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
        source = {"resnet152": "microsoft/resnet-152", "resnet50": "microsoft/resnet-50"}.get(source, source)
        self._model = load_frozen("ResNetModel", source, field="video")
        self.name, self.dim = f"resnet {source}", int(self._model.config.hidden_sizes[-1])
        self.frames_per_row, self.size_px, self._keep_size = frames_per_row, size_px, keep_size

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(frames, height, width, 3) uint8 -> (ceil(frames / frames_per_row), dim) float32."""
        import torch  # late: start-up time
        from torch.nn import functional  # late: start-up time

        picked = checked_frames(frames)[:: self.frames_per_row]
        pooled = []
        with torch.inference_mode():
            for start in range(0, len(picked), _BATCH):
                planes = normalized_planes(picked[start : start + _BATCH])  # (n, 3, h, w)
                if not self._keep_size:
                    square = (self.size_px, self.size_px)
                    planes = functional.interpolate(planes, square, mode="bilinear", antialias=True)
                pooled.append(self._model(planes.to(self._model.device)).pooler_output.flatten(1).float().cpu())
        return torch.cat(pooled).numpy()
