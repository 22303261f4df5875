"""Helpers that do nothing with one process, so that nobody else asks how many there are."""

import torch
import torch.distributed
from jaxtyping import Shaped
from torch import Tensor


def world_size() -> int:
    """Number of training processes; 1 when none were started together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gather_rows(rows: Shaped[Tensor, "local ..."]) -> Shaped[Tensor, "total ..."]:
    """The rows of all processes, in the order of their ranks; gradients flow back to where the rows came from.

    Args:
        rows: (local, ...), the same number on every process.

    Returns:
        (local × processes, ...); the very same tensor with one process.
    """
    if world_size() == 1:
        return rows
    # pulled in late: importing the functional collectives costs time that one process never needs
    from torch.distributed._functional_collectives import all_gather_tensor_autograd

    everybody = torch.distributed.distributed_c10d._get_default_group()
    return all_gather_tensor_autograd(rows.contiguous(), gather_dim=0, group=everybody)
