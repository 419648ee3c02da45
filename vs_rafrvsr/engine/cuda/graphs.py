"""CUDA graphs: one launch instead of hundreds, so that the host spends microseconds and the GIL is free for others.

A graph replays the very kernels that eager mode runs, on fixed memory. So what runs in one is given fixed shapes: the
flow's batches are filled up, and the recurrent state of the chunk that stepped last lies in the graph's own memory.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vs_rafrvsr.engine.once import is_news
from vs_rafrvsr.faults import first_line, out_of_memory

log = logging.getLogger(__name__)

type Run = Callable[..., tuple[Tensor, ...]]


def _release_generator() -> None:
    """Let random numbers be drawn again: PyTorch's generator takes a capture that failed for one that goes on."""
    if torch.cuda.is_initialized():
        generator: Any = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


class Graph:
    """`run`, a function of tensors, captured at its first call; eager where capturing fails.

    The shapes and dtypes of the first call hold for all. The results lie in the graph's memory until the next call of
    any graph with the same `pool`.
    """

    def __init__(self, run: Run, pool: Any = None) -> None:  # noqa: ANN401  (torch's handle has no type)
        self.run, self.pool = run, pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._results: tuple[Tensor, ...] = ()
        self._eager = False

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results for these inputs."""
        if self._graph is None and not self._eager:
            self._inputs = [torch.empty_like(x).copy_(x) for x in inputs]
            self._capture()
        if self._graph is None:
            return self.run(*inputs)
        for static, x in zip(self._inputs, inputs, strict=True):
            static.copy_(x)
        self._graph.replay()
        return self._results

    def _capture(self) -> None:
        self.run(*self._inputs)  # compiles kernels and loads libraries, which cannot be captured
        try:
            graph = torch.cuda.CUDAGraph()
            # On the stream that replays: cuBLAS keeps a workspace of some 30 MB for every stream that it has ever seen.
            # thread_local: what other threads do with CUDA meanwhile, neighbouring filters too, is no error.
            stream = torch.cuda.current_stream()
            with torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
                self._results = self.run(*self._inputs)
            self._graph = graph
        except RuntimeError as error:
            _release_generator()
            if out_of_memory(error):
                raise
            self._eager, self._inputs = True, []
            reason = first_line(error)
            remark = f"CUDA graphs cannot be used here ({reason}); the network runs without them, more slowly"
            if is_news(remark):
                log.warning(remark)


class Batched:
    """`run` over any number of items, always `batch` at a time: the last batch is filled up with its last item.

    So an item's numbers do not depend on how many there are, and one captured shape serves all.
    """

    def __init__(self, run: Run, batch: int) -> None:
        self.run, self.batch = run, batch

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results for all items, copied out of the graph's memory."""
        items = len(inputs[0])
        parts = []
        for start in range(0, items, self.batch):
            piece = [x[start : start + self.batch] for x in inputs]
            missing = self.batch - len(piece[0])
            if missing:
                piece = [torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) for x in piece]
            parts.append([result[: self.batch - missing].clone() for result in self.run(*piece)])
        return tuple(torch.cat(same) if len(same) > 1 else same[0] for same in zip(*parts, strict=True))


@dataclass(eq=False)
class Held:
    """A recurrent state: in the graph's memory while it is the last one made, moved out before another takes over."""

    hr: Tensor
    hidden: Tensor
    frame: Tensor | None = None
    """The output that was made with it, in the graph's memory until the next step."""


class GraphStep:
    """A recurrent step in a graph whose state stays in place; a chunk that takes over moves its own state in.

    Args:
        run: (lr, hr, hidden, flow) -> the output frame; replaces hr and hidden by the next state.
        pool: see Graph.
    """

    def __init__(self, run: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], pool: Any = None) -> None:  # noqa: ANN401
        # The graph knows the resident state, not this object: a cycle would hold device memory until it is collected.
        self._residents = residents = list[Held]()
        self._graph = Graph(lambda lr, flow: (run(lr, residents[0].hr, residents[0].hidden, flow),), pool)
        self._owner: Callable[[], Held | None] = lambda: None

    def __call__(self, lr: Tensor, hr: Tensor, hidden: Tensor, flow: Tensor, state: object) -> Held:
        """The state after `state`, whose tensors are hr and hidden; `state` itself is used up."""
        if not self._residents:
            self._residents.append(Held(torch.zeros_like(hr), torch.zeros_like(hidden)))
            self._graph(lr, flow)  # the capture's trial run spoils the state, so it comes before there is one
        (resident,) = self._residents
        owner = self._owner()
        if owner is None or owner is not state:
            if owner is not None:
                owner.hr, owner.hidden = owner.hr.clone(), owner.hidden.clone()
            resident.hr.copy_(hr)
            resident.hidden.copy_(hidden)
        self._owner = lambda: None  # until the step is made: where it fails, the state there is nobody's
        (frame,) = self._graph(lr, flow)
        made = Held(resident.hr, resident.hidden, frame)
        self._owner = weakref.ref(made)
        return made
