"""Compilation of the tower that does nearly all the work."""

import os
import shutil
import warnings

import torch

from mcnlab.distributed import world_size
from mcnlab.models.davenet import DaveNet
from mcnlab.models.multimodal import MultimodalModel


def compile_audio(model: MultimodalModel) -> None:
    """Let torch compile every DaveNet of a model, in place; names and weights stay.

    One kernel serves all numbers of clips, so that what a resumed run computes does not hang on what came before.

    Args:
        model: runs uncompiled, with a warning, where there is no C++ compiler for the CPU, and where several processes
            share their batch statistics, which a compiled graph cannot.
    """
    several = "several processes share their batch statistics" if world_size() > 1 else ""
    reason = several or missing_compiler(next(model.parameters()).device)
    if reason:
        warnings.warn(f"training.compile: {reason}; the model runs uncompiled", stacklevel=2)
        return
    for module in model.modules():
        if isinstance(module, DaveNet):
            module.compile(dynamic=True)


def missing_compiler(device: torch.device) -> str:
    """Why models on a device cannot be compiled here; empty when they can."""
    name = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(name) is None:
        return f"no C++ compiler ({name}) on the path"
    return ""
