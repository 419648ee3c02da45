"""Loss terms over a clip, and their weighted sum.

Every term takes a `Clip` and returns one number per frame, (T,), averaged over batch, channels and pixels; frame 0 has
no flow, so flow terms give 0 there. The sum is averaged over frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from vs_rafrvsr.models.warp import SCALE, warp
from vs_rafrvsr.training import checkpoint
from vs_rafrvsr.training.recipe import RecipeError

CHARBONNIER_EPSILON = 1e-3
SPECTRUM_WINDOW = 32
"""Output pixels a side of the windows whose spectra are compared; they overlap by half."""
LATTICE_CELL = 2 * SCALE
"""Output pixels a side after which a lattice repeats: one LR pixel, or two where every other one differs."""
LATTICE_WINDOW = 12
"""Cells a side over which a lattice is looked for; the windows overlap by half."""


class Clip(NamedTuple):
    """A batch of clips as the losses see it: images fp32, RGB, truth in [0, 1]."""

    output: Tensor
    """(B, T, 3, 4h, 4w), the network's frames, not clamped."""
    truth: Tensor
    """(B, T, 3, 4h, 4w)."""
    lr: Tensor
    """(B, T, 3, h, w)."""
    flow: Tensor
    """(B, T, 2, h, w) from frame t to t - 1, in LR pixels; frame 0's is unused."""
    given: Tensor
    """The same from the pool: where the flow is trained, the true one, NaN where that is unknown."""


Term = Callable[[Clip], Tensor]


def per_frame(x: Tensor) -> Tensor:
    """(B, T, ...) -> (T,), the mean over everything else."""
    return x.transpose(0, 1).flatten(1).mean(1)


def mse(clip: Clip) -> Tensor:
    """(output - truth)^2: the original project's per-pixel term and FRVSR's (arXiv 1801.04590, section 3.3)."""
    return per_frame((clip.output - clip.truth) ** 2)


def charbonnier(clip: Clip) -> Tensor:
    """sqrt((output - truth)^2 + epsilon^2), epsilon = 1e-3 (Charbonnier et al. 1994; Lai et al. 2017)."""
    return per_frame(((clip.output - clip.truth) ** 2 + CHARBONNIER_EPSILON**2).sqrt())


def total_variation(clip: Clip) -> Tensor:
    """sqrt(dx^2 + dy^2) of the output, forward differences on the pixels that have both (Rudin, Osher, Fatemi 1992).

    The original project sums over pixels; the mean keeps a weight valid for any crop. A gradient of exactly 0 has no
    derivative, hence the 1e-12 under the root.
    """
    dx = clip.output[..., :-1, 1:] - clip.output[..., :-1, :-1]
    dy = clip.output[..., 1:, :-1] - clip.output[..., :-1, :-1]
    return per_frame((dx**2 + dy**2 + 1e-12).sqrt())


def spectrum(clip: Clip) -> Tensor:
    """| |S| - |S of the truth| | / (rms of |S of the truth| + 0.01), S the spectrum of detail in a window (Hann's).

    As much detail as the truth has, of the same fineness and direction, wherever in the window it lies: per-pixel terms
    leave out detail whose place is unknown. Our own.
    """
    ours, true = _amplitudes(_detail(clip.output)), _amplitudes(_detail(clip.truth))
    error = (ours - true).abs() / (true.square().mean((-2, -1), keepdim=True).sqrt() + 0.01)
    return per_frame(error.unflatten(0, clip.output.shape[:2]))


def lattice(clip: Clip) -> Tensor:
    """(|m(|d|) - mean of m(|d|)| + |m(d)|) / (mean of m(|d|) of the truth + 0.004): detail that repeats.

    d is the output's detail; m averages each of the 64 places in a cell by itself, over a window. A network that is
    taught to draw detail of unknown place draws it alike in every LR pixel, or in every other one, if nothing else
    tells it to. Our own.
    """
    ours, size = _detail(clip.output), _by_place(_size(_detail(clip.truth))).mean(1, keepdim=True)
    strength = _by_place(_size(ours))
    uneven = (strength - strength.mean(1, keepdim=True)).abs() + _by_place(ours).abs()
    return per_frame((uneven / (size + 0.004)).unflatten(0, clip.output.shape[:2]))


def flow_lr(clip: Clip) -> Tensor:
    """(warp(lr[t-1], flow[t]) - lr[t])^2 (FRVSR, arXiv 1801.04590, section 3.3)."""
    return _warp_error(clip.lr, clip)


def flow_original(clip: Clip) -> Tensor:
    """(warp(small(output[t-1]), flow[t]) - lr[t])^2: the original project's flow term.

    Its prediction, warped by the flow, against the current ground-truth LR frame; `small` takes 4x4 means.
    """
    return _warp_error(F.avg_pool2d(clip.output.flatten(0, 1), SCALE).view(clip.lr.shape), clip)


def flow_known(clip: Clip) -> Tensor:
    """|flow - true flow|, 0 where that is unknown: RAFT's loss (arXiv 2003.12039, equation 7) on its last update."""
    error = torch.where(clip.given.isnan(), 0, clip.flow - clip.given)[:, 1:]
    return F.pad(per_frame(error.abs()), (1, 0))


def _warp_error(frames: Tensor, clip: Clip) -> Tensor:
    """Squared error of each of `frames` (B, T, 3, h, w), warped to its successor's place, against that LR frame."""
    moved = warp(frames[:, :-1].flatten(0, 1), clip.flow[:, 1:].flatten(0, 1))
    return F.pad(per_frame((moved.view_as(clip.lr[:, 1:]) - clip.lr[:, 1:]) ** 2), (1, 0))


def _detail(frames: Tensor) -> Tensor:
    """(B, T, 3, H, W) -> (B * T, 1, H, W): the mean of RGB minus its mean in 3x3 pixels, fewer at the border."""
    grey = frames.flatten(0, 1).mean(1, keepdim=True)
    return grey - F.avg_pool2d(grey, 3, 1, padding=1, count_include_pad=False)


def _amplitudes(detail: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, windows, frequencies down, across); their rms is the detail's in the window."""
    side = min(SPECTRUM_WINDOW, *detail.shape[2:])
    hann = torch.hann_window(side, periodic=False, device=detail.device)
    taper = hann[:, None] * hann / hann.square().sum()
    windows = detail.unfold(2, side, side // 2).unfold(3, side, side // 2).flatten(1, 3)
    waves: Tensor = torch.fft.rfft2(windows * taper)
    return (waves.real**2 + waves.imag**2 + 1e-8).sqrt()


def _by_place(x: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, 64, rows, columns): means over windows of each place in the cells, whole ones alone."""
    height, width = (side - side % LATTICE_CELL for side in x.shape[2:])
    places = F.pixel_unshuffle(x[..., :height, :width], LATTICE_CELL)
    window = min(LATTICE_WINDOW, *places.shape[2:])
    return F.avg_pool2d(places, window, window // 2)


def _size(x: Tensor) -> Tensor:
    """|x|, with a derivative at 0."""
    return (x**2 + 1e-6).sqrt()


class Perceptual(nn.Module):
    """Squared difference of a feature network's responses (Johnson et al. 2016), its layers weighted alike.

    Args:
        network: any of torchvision's classifiers by name (`vgg19`, `resnet50`, ...) but AlexNet, whose LPIPS judges the
            result. Transformers of a fixed input size, as `vit_b_16`, need a crop of a quarter of that.
        layers: its modules or nodes whose outputs are compared, as torchvision's `get_graph_node_names` names them.
        weights: a file in torchvision's names, safetensors or .pth, which needs to hold what those layers depend on
            alone; torchvision's own weights when None.

    Raises:
        RecipeError: there is no such network or layer, or the file is another network's.
        OSError: the file cannot be read, or torchvision's weights cannot be fetched.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: str, layers: tuple[str, ...], weights: Path | None) -> None:
        super().__init__()
        name = network.lower()  # torchvision does not mind the case either
        if name == "alexnet":
            raise RecipeError(f"perceptual network {network!r}: it judges (LPIPS), so it must not teach; try 'vgg19'")
        if name not in torchvision.models.list_models(torchvision.models):
            raise RecipeError(f"perceptual network {network!r}: not a classifier of torchvision; try 'vgg19'")
        if not layers:
            raise RecipeError("perceptual layers: give at least one")
        model = torchvision.models.get_model(name, weights="DEFAULT" if weights is None else None)
        if hasattr(model, "transform_input"):  # Inception's, which torchvision sets for its own weights alone
            model.transform_input = True
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # it would overwrite the response of the layer before
        try:
            self.features = create_feature_extractor(model, list(layers))
        except ValueError:
            first, *_, last = get_graph_node_names(model)[1][1:]
            raise RecipeError(
                f"perceptual layers {layers}: {network} has {first} to {last}, by layer or block"
            ) from None
        if weights is not None:
            self._load(weights, network)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.requires_grad_(False).eval()

    def _load(self, weights: Path, network: str) -> None:
        held, own = checkpoint.read(weights), self.features.state_dict()
        # Of no use here, and old files lack them.
        counts = {name: own.pop(name) for name in list(own) if name.endswith("num_batches_tracked")}
        for name, tensor in own.items():
            if name not in held or held[name].shape != tensor.shape:
                raise RecipeError(f"{weights}: not the weights of {network}, {name} is missing or does not fit")
        self.features.load_state_dict({name: held[name] for name in own} | counts)

    def responses(self, frames: Tensor) -> list[Tensor]:
        """Frames (N, 3, H, W) in [0, 1] -> the chosen layers' outputs."""
        return list(self.features((frames - self.mean) / self.std).values())

    def forward(self, clip: Clip) -> Tensor:
        """One number per frame, (T,)."""
        with torch.no_grad():
            wanted = self.responses(clip.truth.flatten(0, 1))
        got = self.responses(clip.output.flatten(0, 1))
        shape = clip.output.shape[:2]
        errors = [
            per_frame(((a.float() - b.float()) ** 2).unflatten(0, shape)) for a, b in zip(got, wanted, strict=True)
        ]
        return torch.stack(errors).mean(0)


TERMS: dict[str, Term] = {
    "mse": mse,
    "charbonnier": charbonnier,
    "total_variation": total_variation,
    "spectrum": spectrum,
    "lattice": lattice,
    "flow": flow_lr,
    "flow_original": flow_original,
    "flow_known": flow_known,
}


def total(clip: Clip, terms: Mapping[str, Term], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Each term's mean over the clip's frames, and as `loss` the weighted sum of terms."""
    parts = {name: term(clip).mean() for name, term in terms.items()}
    loss = sum((weights[name] * part for name, part in parts.items()), torch.zeros((), device=clip.output.device))
    return {"loss": loss, **parts}
