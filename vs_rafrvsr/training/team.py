"""Processes that train together, one per GPU: each takes its share of every batch, and their gradients are averaged.

Every process draws the whole batch's plan from the same generator and takes other rows of it, so a run of N processes
computes what one process would, to rounding, and may be resumed by another number of them. `torchrun` starts them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vs_rafrvsr.training.recipe import RecipeError


@dataclass(frozen=True)
class Team:
    """This process among those that train together; by default it is alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> tuple[Team, torch.device]:
        """The team that torchrun's environment names, and this process's own device; alone without torchrun."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if device.type == "cuda" and size > 1:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs are made on the current device
        if size == 1:
            return cls(), device
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size), device

    def leave(self) -> None:
        """Part from the others; on CUDA, NCCL waits for captured graphs (`Trainer.close`)."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The rows of a batch that are this process's.

        Raises:
            RecipeError: the batch cannot be divided so.
        """
        if batch % self.size:
            raise RecipeError(
                f"a batch of {batch} cannot be shared evenly by {self.size} processes; use a multiple of {self.size}, "
                "or fewer processes"
            )
        rows = batch // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def mean(self, tensor: Tensor) -> None:
        """Replace the tensor by its mean over the team; can be captured in a CUDA graph."""
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor /= self.size

    def gather(self, rows: Tensor) -> Tensor:
        """The whole batch's rows, of everyone's."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def any(self, mine: bool, device: torch.device) -> bool:
        """Whether it is true of anyone, so that all do the same."""
        flag = torch.tensor(float(mine), device=device)
        self.mean(flag)
        return bool(flag > 0)
