"""The models that users can name. A new model is a weights file and a row here; a new architecture is a file and a row.

Importing this loads no torch: the command line lists rows without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vs_rafrvsr import weights
from vs_rafrvsr.errors import OptionError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

ARCHITECTURES = {
    "frvsr": ("vs_rafrvsr.models.frvsr", "FRVSR"),
    "rafrvsr": ("vs_rafrvsr.models.rafrvsr", "RAFRVSR"),
}
"""Architecture -> (module, class)."""

MOST_LAYERS = 1024
"""No number of a configuration may exceed it: such a model would take for ever to build."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model that ships with the package."""

    name: str
    file: str
    summary: str

    @property
    def path(self) -> Path:
        """Where its weights lie."""
        return weights.FOLDER / self.file


MODELS = {
    row.name: row
    for row in (
        ModelRow(
            name="rafrvsr",
            file="rafrvsr.safetensors",
            summary="video as it is found: compressed, noisy, soft, or clean",
        ),
        ModelRow(
            name="rafrvsr-texture",
            file="rafrvsr-texture.safetensors",
            summary="the same, sharper: draws likely detail where rafrvsr leaves out what it cannot know",
        ),
        ModelRow(
            name="rafrvsr-bi",
            file="rafrvsr-bi.safetensors",
            summary="clean clips that were downscaled: sharper there, but takes noise for detail",
        ),
        ModelRow(
            name="rafrvsr-bd",
            file="rafrvsr-bd.safetensors",
            summary="the BD benchmark alone: elsewhere its picture lies 1.5 output pixels off",
        ),
        ModelRow(
            name="frvsr-bi",
            file="frvsr-bi.safetensors",
            summary="clean clips that were downscaled, by the network of FRVSR: to compare rafrvsr-bi with",
        ),
        ModelRow(
            name="frvsr-bd",
            file="frvsr-bd.safetensors",
            summary="the BD benchmark alone, by the network of FRVSR: to compare rafrvsr-bd with",
        ),
    )
}


class RecurrentModel(Protocol):
    """What the engine asks of a model: an nn.Module on one device.

    Frames are RGB in [0, 1], fp32, (B, 3, h, w) with h, w >= min_size. Features are a named tuple of tensors, batch
    first; the state is a tuple whose `hr` is the HR output (1, 3, 4h, 4w), fp32. Nothing is kept on the module.
    """

    min_size: int
    sr: nn.Module
    """The convolution stack, (1, C, h, w) -> residual and hidden features, translation invariant but for its border."""
    halo: int
    """LR pixels around a pixel that the stack's output depends on."""
    footprint: int
    """Numbers per LR pixel that the stack holds at once, at most: its input, and three layers' outputs."""
    base: nn.Module
    """The upscale that the network corrects, linear: (B, C, h, w) -> (B, C, 4h, 4w)."""

    def encode(self, frames: Tensor) -> Features:
        """Features of frames, for `flow`."""

    def flow(self, current: Features, previous: Features, size: tuple[int, int]) -> Tensor:
        """Flow (B, 2, h, w) from each current frame to its previous one, in LR pixels."""

    def empty_state(self, lr: Tensor) -> State:
        """The state before the first frame of a shot."""

    def step(self, lr: Tensor, state: State, flow: Tensor | None, stack: Stack | None = None) -> State:
        """The next state. `flow` leads to the state's frame (None: no motion); `stack` runs `sr` another way."""


class State(Protocol):
    """What one step leaves for the next."""

    @property
    def hr(self) -> Tensor:
        """The HR output, (1, 3, 4h, 4w), fp32."""


type Features = Any
type Stack = Callable[[Tensor], tuple[Tensor, Tensor]]


def weights_file(name: str, file: str | None) -> Path:
    """The user's weights, or those of the model's row.

    Raises:
        OptionError: no such model.
    """
    if name not in MODELS:
        raise OptionError(f"model={name!r} is unknown; use one of {', '.join(map(repr, MODELS))}")
    return Path(file) if file is not None else MODELS[name].path


def title(name: str, file: str | None) -> str:
    """What the model is called for users: its row's name, or the architecture that the user's weights bring.

    Raises:
        OptionError: no such model.
        WeightsError: the file is missing or not one of this program.
    """
    path = weights_file(name, file)
    return name if file is None else weights.read_header(path).architecture


def load(name: str, file: str | None, flow_updates: int | None) -> nn.Module:
    """A model with its weights, fp32, on the CPU, in evaluation mode.

    Args:
        name: a key of MODELS.
        file: weights to use instead of the row's; their header names the architecture, which may be another.
        flow_updates: RAFT's iterations instead of the configuration's.

    Raises:
        OptionError: no such model, or it takes no flow_updates.
        WeightsError: the file is missing, damaged, or does not fit.
    """
    import torch

    path = weights_file(name, file)
    header, tensors = weights.load(path)
    if header.architecture not in ARCHITECTURES:
        raise WeightsError(
            f"weights file {path} is for {header.architecture!r}, and this version knows "
            f"{' and '.join(map(repr, ARCHITECTURES))}; use a newer version, or weights of these"
        )
    module, cls = ARCHITECTURES[header.architecture]
    if flow_updates is not None and "flow_updates" not in header.config:
        raise OptionError(f"flow_updates={flow_updates} is for RAFT, which the model of {path} has not; leave it out")
    config = header.config if flow_updates is None else header.config | {"flow_updates": flow_updates}
    build = partial(getattr(import_module(module), cls), **config)
    try:
        _check_sizes(config, build, tensors)
        with torch.device("cpu"):
            model: nn.Module = build()
        model.float().load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(
            f"weights file {path} does not fit its own configuration ({error}); get a fresh copy"
        ) from error
    return model.eval().requires_grad_(False)


def _check_sizes(config: dict[str, Any], build: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless the model has the tensors' shapes. It takes no memory here: a file may claim any size."""
    import torch

    if any(isinstance(value, int | float) and not abs(value) <= MOST_LAYERS for value in config.values()):
        raise ValueError(f"no number may exceed {MOST_LAYERS}")
    with torch.device("meta"):
        wanted = {key: tensor.shape for key, tensor in build().state_dict().items()}
    given = {key: tensor.shape for key, tensor in tensors.items()}
    wrong = [key for key in wanted.keys() | given if wanted.get(key) != given.get(key)]
    if wrong:
        raise ValueError(f"{len(wrong)} of its tensors have another name or shape, such as {min(wrong)}")
