"""The network over a clip: what one training step computes, before the loss."""

from __future__ import annotations

from collections.abc import Iterator
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
    """

    def __init__(
        self, net: Net, joint_updates: int | None, precision: torch.dtype | None, compiled: bool = False
    ) -> None:
        self.net, self.joint_updates, self.precision = net, joint_updates, precision
        self.advance = torch.compile(net.advance, dynamic=False) if compiled else net.advance

    def __call__(
        self,
        lr: Tensor,
        flow: Tensor,
        state: Any = None,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor, Any]:
        """Lr (B, T, 3, h, w) in [0, 1], flow (B, T, 2, h, w) -> frames (B, T, 3, 4h, 4w), flow used, last state.

        With a `state`, which is that of the first frame, T counts only the frames after it.
        """
        if self.joint_updates is not None:
            flow = self.joint_flow(lr, self.joint_updates)
        with self._autocast(lr.device):
            steps = list(self._steps(state, lr, flow))
        return torch.stack([made.hr for made, _ in steps], 1), torch.stack([used for _, used in steps], 1), steps[-1][0]

    def _steps(
        self,
        state: Any,  # noqa: ANN401
        lr: Tensor,
        flow: Tensor,
    ) -> Iterator[tuple[Any, Tensor]]:
        """The states after the frames, and the flow that each step used."""
        first = 0 if state is None else 1
        state = self.net.empty_state(lr[:, 0]) if state is None else state
        for t in range(first, lr.shape[1]):
            used = self.net.refined(lr[:, t], lr[:, t - 1], flow[:, t]) if t else flow[:, 0]
            state = self.advance(lr[:, t], state, Motion(used, lr[:, t - 1]) if t else None)
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
        found = self.net.flow(current, previous, size, updates)
        return torch.cat([found.new_zeros(batch, 1, 2, *size), found.unflatten(0, (batch, count - 1))], 1)
