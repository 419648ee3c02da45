"""One chunk of the clip on its way: what it has read, the recurrent state, and the steps towards its next output."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vs_rafrvsr import scenecut
from vs_rafrvsr.engine.network import Network
from vs_rafrvsr.models.registry import Features, State
from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import Staged
from vs_rafrvsr.schedule import Step


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """What the engine needs to know of a source frame, beside its pixels."""

    colour: Colour
    """What its codes mean."""
    scene_change_prev: int | None
    """The frame's `_SceneChangePrev`, None where it has none."""
    scene_change_next: int | None
    """The frame's `_SceneChangeNext`."""


class Made(NamedTuple):
    """One output, still on the device."""

    n: int
    rgb: Tensor
    """(3, 4h, 4w) fp32; good until the next step or read is enqueued."""
    colour: Colour
    """Of the source frame."""
    reset: bool
    """Whether a shot begins with it."""


@dataclass(slots=True)
class _Read:
    """One source frame that has been read and may still be stepped through."""

    lr: Tensor
    """(1, 3, h, w) fp32 on the device, as it came."""
    colour: Colour
    """What its codes meant, and what its output's will mean."""
    features: Features
    flow: Tensor | None
    """(1, 2, h, w) to the frame before, None for the first frame read."""

    def apart(self) -> _Read:
        """The same in memory of its own: slices keep the whole batch that they were cut from."""
        flow = None if self.flow is None else self.flow.clone()
        return replace(
            self, lr=self.lr.clone(), features=self.features._make(map(torch.clone, self.features)), flow=flow
        )


class Chunk:
    """The cursor of one chunk: `read` takes source frames, `advance` makes outputs; both only move forward.

    A frame that could not be had ends a shot, is never stepped through and makes no output.
    """

    def __init__(self, index: int, network: Network) -> None:
        self.index, self.network = index, network
        self.position = network.grid.start(index)
        """The next frame to step to."""
        self.read_to = network.grid.first_read(index)
        """One past the last frame read."""
        self.stalled = False
        """Whether `advance` has found that frames must be read first, and none were since."""
        self._cuts: set[int] = set()
        self._missing: set[int] = set()
        self._reads: dict[int, _Read] = {}
        self._state: State | None = None
        self._last_thumbnail: Tensor | None = None
        self._last_next: int | None = None

    def twin(self) -> Chunk:
        """A second cursor at the same place, sharing tensors that nobody writes to; one of the two stays there."""
        twin = copy.copy(self)
        twin._cuts, twin._missing, twin._reads = set(self._cuts), set(self._missing), dict(self._reads)
        return twin

    def snapshot(self) -> Chunk:
        """A twin to start from later, however far this one goes; it holds no more memory than it needs."""
        twin, needed = self.twin(), min(self.position, self.read_to - 1)
        twin._reads = {n: read.apart() for n, read in self._reads.items() if n >= needed}
        twin._state = None if self._state is None else self.network.copy(self._state)
        return twin

    @property
    def finished(self) -> bool:
        """Whether every output of the chunk has been made."""
        return self.position >= self.network.grid.stop(self.index)

    def wanted(self) -> range:
        """The source frames to read next."""
        return self.network.grid.next_read(self.index, self.read_to)

    def read(self, frames: Mapping[int, SourceFrame], staged: Staged) -> None:
        """Take the frames that `wanted` names (holes left out): find the cuts, encode, estimate flow, all batched."""
        net, look = self.network, self.wanted()
        self.stalled = False
        lr, nominal = net.runtime.beside(self._receive, look, frames, staged)
        features = net.encode(nominal)
        before = self._reads[look.start - 1].features if look.start - 1 in self._reads else None
        flows = self._flow_back(features, before)
        for i, n in enumerate(look):
            alone = slice(i, i + 1)
            if n in frames:
                self._reads[n] = _Read(lr[alone], frames[n].colour, _select(features, alone), flows[i])
        self.read_to = look.stop

    def _receive(self, look: range, frames: Mapping[int, SourceFrame], staged: Staged) -> tuple[Tensor, Tensor]:
        """The frames on the device, as they came and within the nominal range; their cuts are noted."""
        lr = self.network.exchange.upload(staged, self.network.size)
        nominal = lr.clamp(0, 1)
        self._find_cuts(look, frames, nominal)
        return lr, nominal

    def _flow_back(self, features: Features, before: Features | None) -> list[Tensor | None]:
        """Flow of each frame to the one before it; None for the first frame of all."""
        known = features if before is None else _join([before, features])
        if len(known[0]) == 1:
            return [None]
        flow = self.network.flow(_select(known, slice(1, None)), _select(known, slice(-1)))
        return [*([None] if before is None else []), *torch.split(flow, 1)]

    def _find_cuts(self, look: range, frames: Mapping[int, SourceFrame], nominal: Tensor) -> None:
        """Note every cut in `look` that its frame and the one before tell (DESIGN: scene cuts)."""
        options = self.network.options
        threshold = scenecut.THRESHOLD if options.scenecut_threshold is None else options.scenecut_threshold
        scores: list[float | None] = [None] * len(look)
        if options.scenecut in ("auto", "detect"):
            thumbnails = scenecut.thumbnails(nominal)
            first = thumbnails[:1] if self._last_thumbnail is None else self._last_thumbnail
            scores = list(scenecut.scores(torch.cat([first, thumbnails[:-1]]), thumbnails).tolist())
            self._last_thumbnail = thumbnails[-1:]
        for n, score in zip(look, scores, strict=True):
            frame = frames.get(n)
            if frame is None:
                self._missing.add(n)
                self._cuts |= {n, n + 1}
                self._last_next = None
                continue
            if scenecut.decide(options.scenecut, frame.scene_change_prev, self._last_next, score, threshold):
                self._cuts.add(n)
            self._last_next = frame.scene_change_next

    def advance(self) -> Made | None:
        """Make the next output; None when frames must be read first. A warm-up frame counts, the caller drops it."""
        grid, n = self.network.grid, self.position
        while n in self._missing:
            n += 1
        self.position = n
        if self.finished:
            return None
        steps = grid.steps(self.index, n, self._cuts, self.read_to)
        if steps is None:
            self.stalled = True
            return None
        ahead = self._flow_ahead([step for step in steps if step.previous is not None and step.previous > step.frame])
        for step in steps:
            self._step(step, ahead.get(step.frame))
        self.position = n + 1
        for old in [t for t in self._reads if t < n]:
            del self._reads[old]
        assert self._state is not None
        read = self._reads[n]
        made = Made(n, self.network.frame(read.lr, self._state), read.colour, grid.is_reset(n, self._cuts))
        if self.finished:  # its outputs may be waited for a while longer
            self._reads, self._state = {}, None
        return made

    def _flow_ahead(self, steps: list[Step]) -> dict[int, Tensor]:
        """Flow of each step's frame to the frame after it, for the lead-in, in one batch."""
        if not steps:
            return {}
        current = _join([self._reads[step.frame].features for step in steps])
        following = _join([self._reads[step.frame + 1].features for step in steps])
        flows = self.network.flow(current, following)
        return {step.frame: flow for step, flow in zip(steps, torch.split(flows, 1), strict=True)}

    def _step(self, step: Step, ahead: Tensor | None) -> None:
        net, read = self.network, self._reads[step.frame]
        if step.previous is None or self._state is None:
            self._state = net.step(read.lr, None, None)
        else:
            self._state = net.step(read.lr, self._state, ahead if ahead is not None else read.flow)


def _select(features: Features, where: slice) -> Features:
    return features._make(f[where] for f in features)


def _join(parts: list[Features]) -> Features:
    return parts[0]._make(torch.cat(same) for same in zip(*parts, strict=True))
