"""A recipe: everything that a training run depends on, read from TOML, with overrides from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.training.data import VALIDATION_EVERY
from vs_rafrvsr.training.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the pool is made of."""

    degradation: Literal["bi", "bd", "bd-1.5", "real"] = "bi"
    """A key of `degrade.PHASE`."""
    variants: int = 1
    """How many of every filmed training clip: itself, and copies cut elsewhere (`prepare.cut_anew`); each is damaged in
    its own way where the degradation is random."""
    subset: int = 0
    """Vimeo-90K: train on so many clips of its list, drawn by the seed; 0 for all."""
    validation_every: int = VALIDATION_EVERY
    """One source in so many is kept for validation."""
    fast_weight: float = 0.5
    """How often a clip is drawn at double speed, every other frame left out, against as it is; 0 for never. The
    packs' clips hardly move."""
    stills_weight: float = 0.5
    """How often a camera clip made from a still is drawn, against a real clip of the same detail."""
    stills_step: tuple[float, float] = (1.0, 1.25)
    """Range of the camera's sampling step in pixels of the still: below 1 the clips are soft."""
    stills_clips: int = 180
    """Camera clips to make."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The flow network's part."""

    joint: bool = False
    """RAFT inside the step and trained; otherwise frozen, its flow of whole clips computed once."""
    rate: float = 0.1
    """Joint training: RAFT's learning rate over the network's."""
    updates: int = 4
    """RAFT's updates for frozen flow; within 0.01 dB of 12."""
    joint_updates: int = 2
    """RAFT's updates inside a joint step."""
    weights: str = ""
    """A safetensors file whose `raft.*` tensors RAFT starts from, or torchvision's raft_small."""
    scale: float = 2.0
    """RAFT sees frames enlarged by this factor."""


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Which weights take Muon's orthogonal steps instead of Adam's, and how (`optimiser.Muon`)."""

    on: Literal["none", "body", "all"] = "none"
    """The residual blocks' convolutions, or all of the network's but RAFT's."""
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights of `losses.TERMS` and of the perceptual term; a term at 0 is not computed."""

    charbonnier: float = 1.0
    mse: float = 0.0
    perceptual: float = 0.0
    total_variation: float = 0.0
    spectrum: float = 0.0
    lattice: float = 0.0
    flow: float = 0.0
    flow_original: float = 0.0
    flow_known: float = 0.0
    network: str = "vgg19"
    """The perceptual term's: any of torchvision's classifiers but AlexNet."""
    layers: tuple[str, ...] = ("features.35",)
    """Its layers whose outputs are compared."""
    features: str = ""
    """Its weights, a safetensors or .pth file in torchvision's names; torchvision's own if empty."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run."""

    name: str
    architecture: Literal["rafrvsr", "frvsr"] = "rafrvsr"
    """A key of `registry.ARCHITECTURES`; FRVSR takes of `model` only channels and blocks, and its flow is joint."""
    seed: int = 0
    steps: int = 20_000
    batch: int = 16
    frames: int = 10
    """Of a clip, with gradient."""
    followed: float = 0.0
    """Share of a batch's rows that stay with their clip to its end, each batch going on from the state that the one
    before left. The others begin anew, and teach nothing about states older than `frames`."""
    crop: int = 64
    """Side of a square crop in LR pixels."""
    rate: float = 8e-4
    final_rate: float = 0.01
    """The cosine ends at this fraction of `rate`."""
    warm_up: int = 200
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 0.5
    """The gradient's norm is clipped to this."""
    ema: float = 0.999
    compiled: bool = False
    """torch.compile of the recurrent step: pays in long runs only, it takes more than a minute to begin."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Of the convolutions; coordinates, images and sums are fp32 always."""
    start: str = ""
    """A safetensors file of weights to start from. It holds all of the model, but RAFT where `flow.weights` gives it;
    an experiment's `model` takes what fits."""
    report_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 2000
    model: Variant = field(default_factory=Variant)
    data: Data = field(default_factory=Data)
    flow: Flow = field(default_factory=Flow)
    muon: Muon = field(default_factory=Muon)
    losses: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        if self.architecture == "frvsr" and not self.flow.joint:
            raise RecipeError("frvsr learns its flow with the rest: set flow.joint = true")


class RecipeError(RafrvsrError):
    """A recipe or an override that cannot be read: names the key and what is allowed."""


def check_flow(recipe: Recipe) -> None:
    """Refuse to train on the flow of a network that nothing has taught.

    Raises:
        RecipeError: RAFT is frozen, and no file gives its weights.
    """
    if not (recipe.flow.joint or recipe.flow.weights or recipe.start):
        raise RecipeError(
            "RAFT is frozen and has no weights: give flow.weights=FILE (those of rafrvsr-bi, for example) or "
            "start=FILE, or train it with the rest by flow.joint=true"
        )


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `key=value` with dotted keys and TOML values, such as `model.channels=128`."""
    return build(Recipe, _override({"name": path.stem, **_read(path)}, overrides))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is no TOML: {error}") from None


def _override(table: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"override {override!r}: write key=value")
        *tables, last = key.split(".")
        inner = table
        for name in tables:
            inner = inner.setdefault(name, {})
        inner[last] = _value(value)
    return table


INCIDENTAL = {
    "name",
    "start",
    "steps",
    "rate",
    "compiled",
    "report_every",
    "validate_every",
    "checkpoint_every",
    "flow.weights",
    "losses.features",
}
"""Keys that may change when a run is resumed. What lies in the files is compared by itself (`Trainer.made_of`)."""
REHEARSAL = {
    "batch": 2,
    "frames": 3,
    "crop": 16,
    "model": {"channels": 8, "blocks": 1},
    "data": {"stills_clips": 20},
}
"""Changes that make any run small enough to rehearse on a CPU."""


def read_table(
    path: Path, overrides: Iterable[str] = (), rehearse: bool = False
) -> tuple[Recipe, dict[str, dict[str, Any]]]:
    """A table of experiments: the baseline, with `overrides` as in `load`; each run's name and changes to it."""
    table = _read(path)
    if not {"baseline", "runs"} <= table.keys():
        raise RecipeError(f"{path} is no table of experiments: it needs [baseline] and [runs.NAME]")
    baseline = change(Recipe(name="baseline"), _override(table["baseline"], overrides))
    for name, changes in table["runs"].items():
        run = change(baseline, changes)
        if own := [key for key in differences(run, dataclasses.asdict(baseline)) if _makes_clips(key, run)]:
            raise RecipeError(f"{path}: {name} changes {', '.join(own)}, but all runs share the baseline's clips")
    return change(baseline, REHEARSAL) if rehearse else baseline, table["runs"]


def chosen(runs: Mapping[str, Any], names: Iterable[str] | None) -> list[str]:
    """The named runs of a table, or all.

    Raises:
        RecipeError: there is no run of that name.
    """
    unknown = [name for name in names or () if name not in runs]
    if unknown:
        raise RecipeError(f"no run {', '.join(unknown)} in the table: it has {', '.join(runs)}")
    return list(names or runs)


def _makes_clips(key: str, recipe: Recipe) -> bool:
    """Whether clips depend on this key; those of stills are only drawn more often, and a joint flow is found anew."""
    frozen = () if recipe.flow.joint else ("flow.updates", "flow.scale")
    return key in ("seed", *frozen) or (key.startswith("data.") and key != "data.stills_weight")


def change(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with some keys changed, tables given as tables."""
    merged = dataclasses.asdict(recipe)
    for key, value in changes.items():
        merged[key] = {**merged[key], **value} if isinstance(value, Mapping) else value
    return build(Recipe, merged)


def differences(recipe: Recipe, record: Mapping[str, Any]) -> list[str]:
    """Dotted keys in which a recipe differs from the table of another; where files lie and what is reported aside.

    A key that the table, written by an earlier version, lacks has its default.
    """
    own, other = (_flat(dataclasses.asdict(r)) for r in (recipe, build(Recipe, record)))
    return [key for key in sorted(own) if key not in INCIDENTAL and own[key] != other[key]]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _value(text: str) -> Any:  # noqa: ANN401  (whatever TOML says)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def build[T](kind: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """A frozen dataclass from a table: unknown keys and wrong types are errors that say what is allowed."""
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            advice = f"did you mean {where}{near[0]}?" if near else f"one of {', '.join(sorted(hints))}"
            raise RecipeError(f"unknown key {where}{key}: {advice}")
        values[key] = _check(hints[key], value, where + key)
    return kind(**values)


def _check(hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401  (types as values)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{key} is a table, not {value!r}")
        return build(hint, value, f"{key}.")
    origin = getattr(hint, "__origin__", hint)
    if origin is Literal:
        if value not in hint.__args__:
            raise RecipeError(f"{key} = {value!r}: one of {', '.join(map(repr, hint.__args__))}")
        return value
    if origin is tuple:
        parts = hint.__args__
        if parts[-1] is Ellipsis and isinstance(value, list | tuple):
            parts = parts[:1] * len(value)
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            raise RecipeError(f"{key} = {value!r}: a list of {len(parts)}")
        return tuple(_check(part, x, key) for part, x in zip(parts, value, strict=True))
    if origin is float and type(value) is int:
        return float(value)
    if type(value) is not origin:
        raise RecipeError(f"{key} = {value!r}: expected {origin.__name__}")
    return value
