"""The training loop: forward over a clip, backward and update in one CUDA graph."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.training import checkpoint, losses
from vs_rafrvsr.training.curves import Curves
from vs_rafrvsr.training.degrade import PHASE
from vs_rafrvsr.training.optimiser import Group, Muon, Optimiser
from vs_rafrvsr.training.pool import PLAN, Batch, Pool, PoolClip
from vs_rafrvsr.training.prepare import Prepared
from vs_rafrvsr.training.recipe import Recipe, differences
from vs_rafrvsr.training.start import make_net, make_perceptual, start_weights
from vs_rafrvsr.training.team import Team
from vs_rafrvsr.training.unroll import Unroll
from vs_rafrvsr.training.validate import validate, validate_long, write_picture
from vs_rafrvsr.training.variants import FLOW_PARTS

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
MOST_SKIPPED, WATCHED = 0.05, 50
"""Share of steps whose gradient may overflow before the run stops, and over how many steps at least that is judged."""


class DivergedError(RafrvsrError):
    """Too many steps without a finite gradient; the last checkpoint is whole."""


class Trainer:
    """One run of a recipe over prepared clips; its whole state goes into a checkpoint and back.

    The clips of `prepared.train` are copied; whoever needs them no longer may clear the list.

    Raises:
        RecipeError: the recipe's batch cannot be shared evenly by the team.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        device: torch.device,
        out: Path,
        team: Team = Team(),  # noqa: B008
    ) -> None:
        self.recipe, self.prepared, self.device, self.out, self.team = recipe, prepared, device, out, team
        self.share = team.share(recipe.batch)
        self.net = make_net(recipe, device)
        joint = recipe.flow.joint_updates if recipe.flow.joint else None
        self.unroll = Unroll(self.net, joint, PRECISIONS[recipe.precision], recipe.compiled)
        self.pool = Pool(
            prepared.train,
            frames=recipe.frames,
            crop=recipe.crop,
            phase=PHASE[recipe.data.degradation],
            camera_weight=recipe.data.stills_weight,
        )
        self.rng = np.random.default_rng(recipe.seed)
        self.optimiser = self._optimiser()
        self.weights, self.terms = self._losses()
        self.step = 0
        self.seconds = 0.0
        rows = self.share.stop - self.share.start
        self.drawn: NDArray[np.int64] | None = None
        """The last plan of the whole batch."""
        self.plan = torch.zeros(rows, len(PLAN), dtype=torch.int64, device=device)
        empty = self.net.empty_state(torch.zeros(rows, 3, recipe.crop, recipe.crop, device=device))
        self.state = empty._make(part.half() for part in empty)
        """What the last batch left, for the rows that go on."""
        self.rate = torch.zeros((), device=device)
        self.sums = {name: torch.zeros((), device=device) for name in ("loss", *self.terms)}
        self.summed = torch.zeros((), device=device)
        """Steps in the sums: those whose gradient was finite."""
        self.curves = Curves(out / "curves.csv", self.sums, self._judges())
        self.history: list[dict[str, float]] = []
        self.scored: dict[str, float] = {}
        """The last validation's columns, of this run or of the one that it resumes."""
        self.made_of = self._fingerprints()
        self._advance: Callable[[], None] | None = None

    def _losses(self) -> tuple[dict[str, float], dict[str, losses.Term]]:
        """Weights and terms that count, by name."""
        plan = self.recipe.losses
        weights = {name: getattr(plan, name) for name in (*losses.TERMS, "perceptual") if getattr(plan, name)}
        terms = {name: losses.TERMS[name] for name in weights if name in losses.TERMS}
        if (perceptual := make_perceptual(self.recipe)) is not None:
            terms["perceptual"] = perceptual.to(self.device)
        return weights, terms

    def _fingerprints(self) -> dict[str, str]:
        """Of what training depends on and neither the recipe nor a checkpoint's tensors hold.

        Of clips what was decoded: what the device rendered, shrank or encoded may differ by a bit from start to start.
        """
        clips, joint = self.prepared.train, self.recipe.flow.joint
        sums = [int(c.hr.sum()) for c in clips if not c.camera]
        frozen = {k: t for k, t in self.net.state_dict().items() if k.startswith(FLOW_PARTS) and not joint}
        judge = self.terms.get("perceptual")
        features = judge.state_dict() if isinstance(judge, losses.Perceptual) else {}
        return {
            "clips": checkpoint.fingerprint([*(f"{c.name}{tuple(c.lr.shape)}" for c in clips), str(sums)]),
            "the flow network's weights": checkpoint.fingerprint(frozen.values()),
            "the feature network's weights": checkpoint.fingerprint(features.values()),
        }

    def _optimiser(self) -> Optimiser:
        recipe = self.recipe
        flow: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.net.named_parameters():
            (flow if name.startswith(FLOW_PARTS) else rest).append(parameter)
        if not recipe.flow.joint:
            for parameter in flow:
                parameter.requires_grad_(False)
        groups = [Group(rest, 1.0)] + ([Group(flow, recipe.flow.rate)] if recipe.flow.joint else [])
        return Optimiser(
            groups,
            betas=recipe.betas,
            clip=recipe.clip,
            ema=recipe.ema,
            scaled=recipe.precision == "fp16",
            muon=self._muon(),
        )

    def _muon(self) -> Muon:
        plan = self.recipe.muon
        prefix = {"none": None, "body": "sr.body.", "all": ""}[plan.on]
        weights = [
            p
            for name, p in self.net.named_parameters()
            if prefix is not None and name.startswith(prefix) and not name.startswith(FLOW_PARTS) and p.dim() == 4
        ]
        return Muon(weights, plan.rate)

    def _body(self) -> None:
        """Everything of a step that runs on the device."""
        batch: Batch = self.pool.cut(self.plan)
        went_on = batch.anew[:, None, None, None] == 0
        state = self.state._make(torch.where(went_on, part.float(), 0) for part in self.state)
        frames, flow, last = self.unroll(batch.lr, batch.flow, state)
        lr, known = (given[:, 1:] for given in (batch.lr, batch.flow))
        parts = losses.total(losses.Clip(frames, batch.hr, lr, flow, known), self.terms, self.weights)
        self.optimiser.backward(parts["loss"])
        self.team.mean(self.optimiser.gradient)
        self.optimiser.step(self.rate)
        fine = self.optimiser.norm.isfinite()
        for held, part in zip(self.state, last, strict=True):
            held.copy_(part.detach().half().nan_to_num(0, 0, 0))
        for name, value in parts.items():
            self.sums[name] += torch.where(fine, value.detach(), self.optimiser.nothing)
        self.summed += fine

    def _capture(self) -> Callable[[], None]:
        """The step as one CUDA graph; weights and counters are as before. On the CPU the step itself."""
        if self.device.type != "cuda":
            return self._body
        held = {name: tensor.clone() for name, tensor in self.optimiser.state().items()}
        left = [part.clone() for part in self.state]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        graph = torch.cuda.CUDAGraph()
        # Searching for the fastest convolutions pays here alone: flow and validation meet too many shapes.
        torch.backends.cudnn.benchmark = True
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._body()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # NCCL's own thread asks CUDA meanwhile
            self._body()
        torch.backends.cudnn.benchmark = False
        self.optimiser.load(held)
        for part, before in zip(self.state, left, strict=True):
            part.copy_(before)
        self._zero_sums()
        return graph.replay

    def _zero_sums(self) -> None:
        for value in (*self.sums.values(), self.summed):
            value.zero_()

    def _fill_plan(self) -> None:
        recipe = self.recipe
        self.drawn = self.pool.draw(self.rng, recipe.batch, self.drawn, followed=recipe.followed)
        rows = torch.from_numpy(self.drawn[self.share])
        # From pinned memory a copy does not wait for the step before; PyTorch keeps the memory until it is done.
        self.plan.copy_(rows.pin_memory() if self.plan.is_cuda else rows, non_blocking=True)

    def schedule(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine down to final_rate of it."""
        recipe = self.recipe
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / recipe.steps))
        return recipe.rate * min(1.0, (step + 1) / recipe.warm_up) * max(recipe.final_rate, cosine)

    def advance(self, steps: int) -> None:
        """Take some steps without reporting."""
        if self._advance is None:
            self._advance = self._capture()
        start = time.perf_counter()
        for _ in range(steps):
            self._fill_plan()
            self.rate.fill_(self.schedule(self.step))
            self._advance()
            self.step += 1
            if self.step % 10 == 0:
                self._wait()
        self._wait()
        self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """Let the step's CUDA graph go: while it holds NCCL's calls, a team cannot be left (pytorch #115388)."""
        self._advance = None

    def run(self, due: Callable[[], bool] = lambda: False) -> Iterator[dict[str, float]]:
        """Train to the recipe's last step, or to the report at which an end is `due`, with validation and a checkpoint.

        Yields a row at every report, scores in it where validation was due.
        """
        recipe = self.recipe
        if self.team.leads:
            self.curves.begin(self.step)
        since, skipped, seconds = self.step, float(self.optimiser.skipped), self.seconds
        last = self.step >= recipe.steps
        while not last:
            steps = min(recipe.report_every - self.step % recipe.report_every, recipe.steps - self.step)
            self.advance(steps)
            now = float(self.optimiser.skipped)
            row = {
                "step": float(self.step),
                "seconds": self.seconds,
                "steps_per_second": steps / (self.seconds - seconds),
            }
            for value in self.sums.values():
                self.team.mean(value)
            summed = float(self.summed) or math.nan
            row |= {name: float(value) / summed for name, value in self.sums.items()}
            row |= {"gradient": float(self.optimiser.norm), "rate": self.schedule(self.step), "skipped": now}
            self._zero_sums()
            if now - skipped > max(MOST_SKIPPED * (self.step - since), 4):
                self._report(row)
                raise DivergedError(
                    f"{now - skipped:.0f} of {self.step - since} steps before step {self.step} had no finite gradient; "
                    "resume from the last checkpoint, or begin again, with a lower rate, "
                    f"such as rate={recipe.rate / 2:g}"
                )
            if self.step - since >= WATCHED:
                since, skipped = self.step, now
            seconds = self.seconds
            last = due() or self.step >= recipe.steps
            if last or self.step % recipe.validate_every < steps:
                self.scored = {
                    f"{kind}_{name}": value for kind, score in self.scores().items() for name, value in score.items()
                }
                row |= self.scored
            self._report(row)
            if last or self.step % recipe.checkpoint_every < steps:
                self.save()
            yield row

    def scores(self) -> dict[str, dict[str, float]]:
        """Validation of the averaged weights, in fp32, on each kind of clips; pictures of those that are shown."""
        unroll = Unroll(self.net, self.unroll.joint_updates, None)

        def frames(lr: Tensor, flow: Tensor) -> Tensor:
            return unroll(lr, flow)[0]

        with self.optimiser.averaged():
            found = {
                kind: validate(frames, clips)._asdict() | {"lost": validate_long(frames, clips)}
                for kind, clips in self._judges().items()
            }
            for clip in self.prepared.shown if self.team.leads else ():
                write_picture(self.out / "pictures" / f"{self.step:06}-{clip.name}.png", frames, clip)
        return found

    def _judges(self) -> dict[str, list[PoolClip]]:
        """Validation clips by the name of their columns."""
        kinds = {kind: getattr(self.prepared, kind) for kind in ("real", "clean", "camera", "shown")}
        return {kind: clips for kind, clips in kinds.items() if clips}

    def _report(self, row: dict[str, float]) -> None:
        self.history.append(row)
        if self.team.leads:
            self.curves.append(row)

    def describe(self) -> str:
        """What is trained on what, for a log."""
        left_out, own = self.pool.left_out, self.net.state_dict()
        held = " + ".join(f"{len(clips)} {kind}" for kind, clips in self._judges().items()) or "none"
        start = f"{len(start_weights(self.recipe, own))} of {len(own)} tensors from {self.recipe.start}, "
        return (
            f"{self.optimiser.weights.numel():,} parameters, {start if self.recipe.start else ''}"
            + f"{len(self.pool.lengths)} clips"
            + (f" ({len(left_out)} too short or small: {', '.join(left_out)})" if left_out else "")
            + f", {held} for validation, step {self.step}"
        )

    def save(self) -> None:
        """Write the checkpoint: the optimiser's state, the recurrence's, step, plan and generator; the leader does."""
        left = {
            f"{name} {row}": tensor  # by row, for no tensor is split between files
            for name, part in zip(self.state._fields, self.state, strict=True)
            for row, tensor in enumerate(self.team.gather(part))
        }
        if not self.team.leads:
            return
        record = {
            "recipe": dataclasses.asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "plan": None if self.drawn is None else self.drawn.tolist(),
            "scored": self.scored,
            "made_of": self.made_of,
        }
        checkpoint.save(self.out / "checkpoint", self.optimiser.state() | left, record)

    def resume(self) -> None:
        """Go on from the checkpoint in `out`, exactly; one of another recipe, other clips or other files is refused."""
        tensors, record = checkpoint.load(self.out / "checkpoint")
        held = record.get("made_of", {})
        changed = differences(self.recipe, record["recipe"])
        changed += [name for name, own in self.made_of.items() if held.get(name) != own]
        if changed:
            raise checkpoint.CheckpointError(
                f"the checkpoint in {self.out} was made with other values of {', '.join(changed)}: "
                "resume with the same recipe, clips and files, or begin a new run with start=FILE"
            )
        for key in ("rate", "steps"):  # the schedule's
            if (before := record["recipe"][key]) != (now := getattr(self.recipe, key)):
                print(f"{key} was {before} and is {now} from step {record['step']} on", flush=True)
        rows = range(self.recipe.batch)[self.share]
        for name, part in zip(self.state._fields, self.state, strict=True):
            part.copy_(torch.stack([tensors.pop(f"{name} {row}") for row in rows]))
        self.drawn = None if record["plan"] is None else np.array(record["plan"], np.int64)
        self.optimiser.load({name: tensor.to(self.device) for name, tensor in tensors.items()})
        self.step, self.seconds, self.scored = record["step"], record["seconds"], record["scored"]
        self.rng.bit_generator.state = record["rng"]
        self._zero_sums()

    def export(self) -> dict[str, Tensor]:
        """The averaged weights under the model's names, fp16, with RAFT's."""
        with self.optimiser.averaged():
            return {name: t.detach().half().cpu().contiguous() for name, t in self.net.state_dict().items()}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
