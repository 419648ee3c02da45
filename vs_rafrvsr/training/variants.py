"""Architectures of the plateau experiments: RAFRVSR with parts changed one at a time.

The default `Variant` computes exactly `models.RAFRVSR`, with the same parameter names, so its weights load there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_rafrvsr.models import frvsr, raft
from vs_rafrvsr.models.frvsr import FRVSR
from vs_rafrvsr.models.rafrvsr import RAFRVSR, SRNet, State
from vs_rafrvsr.models.warp import SCALE, depth_to_space, space_to_depth, upsample_flow, warp

FLOW_PARTS = ("raft.", "fnet.")
"""Prefixes of the flow networks' parameters."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the network is given and how it is built."""

    channels: int = 64
    blocks: int = 10
    previous: Literal["output", "none"] = "output"
    """The previous HR output, warped, or left out."""
    previous_lr: bool = False
    """Also the previous LR frame, warped: where it differs from the current one, alignment failed."""
    hidden: Literal["body", "conv"] = "body"
    """What is handed on: the body's output, or a convolution of it with ReLU (RRN, Isobe et al. 2020)."""
    refine: int = 0
    """Channels of the flow refinement at LR size; 0 for none."""
    matcher: Literal["raft", "fnet"] = "raft"
    """The flow network: RAFT-small, or FRVSR's."""


def is_plain(variant: Variant) -> bool:
    """Whether a network is `models.RAFRVSR` itself, of any size."""
    return replace(variant, channels=64, blocks=10) == Variant()


class Motion(NamedTuple):
    """What one step knows of the frame before, beside the state."""

    flow: Tensor
    """(B, 2, h, w) in LR pixels."""
    lr: Tensor
    """(B, 3, h, w), the previous LR frame."""


class Refine(nn.Module):
    """A small correction of the flow from both frames: RAFT-small's flow has an eighth of its input's resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, channels, 5, padding=2)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.c = nn.Conv2d(channels, 2, 3, padding=1)
        nn.init.zeros_(self.c.weight)
        nn.init.zeros_(self.c.bias)  # type: ignore[arg-type]  # a convolution's bias may be None

    def forward(self, lr: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """Frames (B, 3, h, w) in [0, 1] and flow (B, 2, h, w) fp32 in LR pixels -> flow of the same shape, fp32."""
        seen = torch.cat([lr, warp(previous, flow) - lr, flow / 8], 1)
        x = F.relu(self.b(F.relu(self.a(seen))))
        correction: Tensor = self.c(x)
        return flow + correction.float()


class Net(Protocol):
    """What the trainer asks of a network, beside what every nn.Module has; features and states are each one's own."""

    @property
    def base(self) -> nn.Module:
        """The upscale that the network corrects."""

    def state_dict(self) -> dict[str, Any]:
        """As nn.Module's."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """As nn.Module's."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As nn.Module's."""

    def encode(self, frames: Tensor) -> Any:  # noqa: ANN401
        """Features of frames (B, 3, h, w) in [0, 1]."""

    def flow(self, current: Any, previous: Any, size: tuple[int, int], updates: int | None = None) -> Tensor:  # noqa: ANN401
        """Flow (B, 2, h, w) of pairs, in LR pixels, by so many of RAFT's updates; None is the network's own number."""

    def refined(self, lr: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """The flow that the step uses."""

    def empty_state(self, lr: Tensor) -> Any:  # noqa: ANN401
        """The state before the first frame."""

    def advance(self, lr: Tensor, state: Any, motion: Motion | None) -> Any:  # noqa: ANN401
        """The next state; its `hr` is the output."""


class VariantNet(RAFRVSR):
    """The recurrent model with a `Variant`'s changes."""

    def __init__(self, variant: Variant, *, offset: float, flow_updates: int, flow_input_scale: float) -> None:
        super().__init__(
            channels=variant.channels,
            blocks=variant.blocks,
            flow_updates=flow_updates,
            flow_input_scale=flow_input_scale,
            offset=offset,
        )
        self.variant = variant
        inputs = 3 + 3 * SCALE**2 * (variant.previous != "none") + variant.channels
        self.sr = SRNet(inputs + 3 * variant.previous_lr, variant.channels, variant.blocks)
        self.hidden = nn.Conv2d(variant.channels, variant.channels, 3, padding=1) if variant.hidden == "conv" else None
        self.refine = Refine(variant.refine) if variant.refine else None
        if variant.matcher == "fnet":
            self.raft, self.fnet = None, frvsr.FNet()

    def refined(self, lr: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """The flow that the step uses, from RAFT's."""
        return flow if self.refine is None else self.refine(lr, previous, flow)

    def encode(self, frames: Tensor) -> Any:  # noqa: ANN401  (the flow network's own)
        """Features of frames (B, 3, h, w) in [0, 1]; FNet's are the frames themselves, enlarged."""
        if self.raft is not None:
            return super().encode(frames)
        scale = self.flow_input_scale
        return frvsr.Features(F.interpolate(frames, scale_factor=scale, mode="bilinear") if scale != 1 else frames)

    def flow(self, current: Any, previous: Any, size: tuple[int, int], updates: int | None = None) -> Tensor:  # noqa: ANN401
        """Flow of pairs, (B, 2, h, w) in LR pixels, by so many updates; FNet has none."""
        if self.raft is not None:
            updates = self.flow_updates if updates is None else updates
            return raft.flow(self.raft, current, previous, size, self.flow_input_scale, updates)
        found = self.fnet(current.frames, previous.frames)
        return found if self.flow_input_scale == 1 else F.interpolate(found, size, mode="area") / self.flow_input_scale

    def advance(self, lr: Tensor, state: State, motion: Motion | None) -> State:
        """One frame: lr (B, 3, h, w) fp32 in [0, 1]; motion is None at the first frame of a clip."""
        variant, dtype = self.variant, state.hidden.dtype
        with torch.autocast(lr.device.type, enabled=False):  # bf16 would round the picture to 256 steps
            base = self.base(lr)
        inputs = [lr.to(dtype)]
        if variant.previous != "none":
            inputs.append(self._previous(state.hr, motion).to(dtype))
        inputs.append(state.hidden if motion is None else warp(state.hidden, motion.flow))
        if variant.previous_lr:
            inputs.append((lr if motion is None else warp(motion.lr, motion.flow)).to(dtype))
        residual, hidden = self.sr(torch.cat(inputs, 1).contiguous(memory_format=torch.channels_last))
        if self.hidden is not None:
            hidden = F.relu(self.hidden(hidden))
        return State(base + depth_to_space(residual.float()), hidden)

    def _previous(self, hr: Tensor, motion: Motion | None) -> Tensor:
        if motion is None:
            return space_to_depth(torch.zeros_like(hr))
        return space_to_depth(warp(hr, upsample_flow(motion.flow)))


class TrainedFRVSR(FRVSR):
    """FRVSR in the trainer's hands, as `VariantNet` is RAFRVSR."""

    def refined(self, lr: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """The flow itself."""
        return flow

    def flow(
        self, current: frvsr.Features, previous: frvsr.Features, size: tuple[int, int], updates: int | None = None
    ) -> Tensor:
        """Flow of pairs, (B, 2, h, w) in LR pixels; FNet has no updates."""
        del updates
        return super().flow(current, previous, size)

    def advance(self, lr: Tensor, state: frvsr.State, motion: Motion | None) -> frvsr.State:
        """One frame: lr (B, 3, h, w) fp32 in [0, 1]; motion is None at the first frame of a clip."""
        with torch.autocast(lr.device.type, enabled=False):
            base = self.base(lr)
        hr = state.hr if motion is None else warp(state.hr, upsample_flow(motion.flow))
        aligned = torch.cat([lr, space_to_depth(hr)], 1).contiguous(memory_format=torch.channels_last)
        residual, _ = self.sr(aligned)
        return frvsr.State(base + depth_to_space(residual.float()))


@torch.no_grad()
def initialise(net: VariantNet | TrainedFRVSR) -> None:
    """He initialisation of the body; a block's second convolution and the tail at a tenth, as RRN (Isobe et al. 2020).

    So blocks start near identity and the output near the bicubic base. FNet: He too, for its leaky ReLU, its last
    convolution near zero; PyTorch's default shrinks the signal by layer, and it never leaves zero flow.
    """
    for name, parameter in net.sr.body.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter)
            if ".b." in name:
                parameter.mul_(0.1)
    for parameter in net.sr.tail.parameters():
        parameter.mul_(0.1)
    for fnet in (module for module in net.children() if isinstance(module, frvsr.FNet)):
        for parameter in fnet.parameters():
            nn.init.zeros_(parameter) if parameter.dim() == 1 else nn.init.kaiming_normal_(parameter, a=frvsr.LEAK)
        nn.init.normal_(fnet.last[1].weight, std=1e-3)  # type: ignore[arg-type]  # a module's attribute
