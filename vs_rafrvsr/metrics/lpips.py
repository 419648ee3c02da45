"""LPIPS v0.1 with AlexNet (Zhang et al. 2018, arXiv 1801.03924), from weights that the user brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from vs_rafrvsr.metrics.fidelity import Curve, Frames

STAGES = (1, 4, 7, 9, 11)
"""AlexNet's layers whose outputs are compared: each convolution's ReLU."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Of RGB in [-1, 1]: LPIPS's own constants."""


class Lpips(nn.Module):
    """The distance of two images: squared difference of unit-length AlexNet features, weighted, averaged, summed.

    Args:
        features: safetensors in torchvision's names for AlexNet, `features.0.weight` and so on.
        heads: safetensors with the linear heads of LPIPS v0.1, `lin0.model.1.weight` to `lin4.model.1.weight`.
        device: where to compute, in fp32.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: Path, heads: Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.features = torchvision.models.alexnet(weights=None).features[: STAGES[-1] + 1]
        held = {name.removeprefix("features."): t.float() for name, t in load_file(features).items()}
        self.features.load_state_dict({name: held[name] for name in self.features.state_dict()})
        weights = load_file(heads)
        self.heads = [weights[f"lin{i}.model.1.weight"].float().to(device) for i in range(len(STAGES))]
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def stages(self, frame: Frames) -> list[Tensor]:
        """Unit-length features of one frame (H, W, 3) uint8 RGB: five tensors (1, C, h, w)."""
        x = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))[None].to(self.shift.device)
        x, kept = (x.float() / 127.5 - 1 - self.shift) / self.scale, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in STAGES:
                kept.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return kept

    def distance(self, a: list[Tensor], b: list[Tensor]) -> float:
        """LPIPS of two frames from their features."""
        parts = [((x - y) ** 2 * head).sum(1).mean() for x, y, head in zip(a, b, self.heads, strict=True)]
        return float(torch.stack(parts).sum())


def lpips_and_tlp(metric: Lpips, truth: Frames, output: Frames) -> tuple[Curve, Curve]:
    """LPIPS of every frame, (N,), and tLP100 of every pair of neighbours, (N - 1,).

    tLP100 = 100 |LPIPS(truth[t - 1], truth[t]) - LPIPS(output[t - 1], output[t])| (TecoGAN, Chu et al. 2020,
    arXiv 1811.09393): how far the output's change over time looks different from the truth's.
    """
    before: tuple[list[Tensor], list[Tensor]] | None = None
    distances, changes = [], []
    for t, o in zip(truth, output, strict=True):
        now = metric.stages(t), metric.stages(o)
        distances.append(metric.distance(*now))
        if before is not None:
            moved = [metric.distance(old, new) for old, new in zip(before, now, strict=True)]
            changes.append(100 * abs(moved[0] - moved[1]))
        before = now
    return np.array(distances), np.array(changes)
