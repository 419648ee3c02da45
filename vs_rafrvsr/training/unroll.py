"""The network over a clip: what one training step computes, before the loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vs_rafrvsr.training.variants import Motion, Net


class Unroll:
    """The network over a clip.

    Args:
        net: the network.
        joint_updates: RAFT's updates, run here on the LR frames; None takes the flow given.
        precision: of the convolutions.
        compiled: compile the recurrent step, for one size.
        age: frames at a clip's beginning that only make the state for the others, see `Recipe.age`: no gradient, and
            not returned.
    """

    def __init__(
        self,
        net: Net,
        joint_updates: int | None,
        precision: torch.dtype | None,
        compiled: bool = False,
        age: int = 0,
    ) -> None:
        self.net, self.joint_updates, self.precision, self.age = net, joint_updates, precision, age
        self.advance = torch.compile(net.advance, dynamic=False) if compiled else net.advance

    def __call__(self, lr: Tensor, flow: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lr (B, T, 3, h, w) in [0, 1], flow (B, T, 2, h, w) -> frames (B, T, 3, 4h, 4w) and the flow that was used."""
        if self.joint_updates is not None:
            flow = self.joint_flow(lr, self.joint_updates)
        keep = lr.new_ones(len(lr)) if keep is None else keep
        with self._autocast(lr.device):
            state = self.net.empty_state(lr[:, 0])
            if self.age:
                self._grow_old(state, lr, flow, keep)
            steps = list(self._steps(state, lr, flow, keep, range(self.age, lr.shape[1])))
        return torch.stack([state.hr for state, _ in steps], 1), torch.stack([used for _, used in steps], 1)

    @torch.no_grad()
    def _grow_old(self, state: Any, lr: Tensor, flow: Tensor, keep: Tensor) -> None:  # noqa: ANN401
        """Fill every other row of an empty state with that of `age` frames."""
        old = slice(None, None, 2)
        *_, (aged, _) = self._steps(self.net.empty_state(lr[old, 0]), lr[old], flow[old], keep[old], range(self.age))
        for part, aged_part in zip(state, aged, strict=True):
            part[old] = aged_part
        torch.clear_autocast_cache()  # it holds weights without their gradient now

    def _steps(
        self,
        state: Any,  # noqa: ANN401
        lr: Tensor,
        flow: Tensor,
        keep: Tensor,
        frames: Iterable[int],
    ) -> Iterator[tuple[Any, Tensor]]:
        """The states after some frames, and the flow that each step used."""
        for t in frames:
            used = self.net.refined(lr[:, t], lr[:, t - 1], flow[:, t]) if t else flow[:, 0]
            state = self.advance(lr[:, t], state, Motion(used, lr[:, t - 1], keep) if t else None)
            yield state, used

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self.precision is None else torch.autocast(device.type, self.precision)

    def joint_flow(self, lr: Tensor, updates: int) -> Tensor:
        """Flow of every frame to the one before, (B, T, 2, h, w) fp32; 0 for frame 0."""
        batch, count = lr.shape[:2]
        features = self.net.encode(lr.flatten(0, 1))
        pairs = [x.unflatten(0, (batch, count)) for x in features]
        current, previous = (
            type(features)(*(x[:, part].flatten(0, 1) for x in pairs)) for part in (slice(1, None), slice(None, -1))
        )
        size = (lr.shape[-2], lr.shape[-1])
        found = self.net.clip_flow(current, previous, size, updates)
        return torch.cat([found.new_zeros(batch, 1, 2, *size), found.unflatten(0, (batch, count - 1))], 1)
