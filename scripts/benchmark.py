#!/usr/bin/env python
"""How fast the filter is from frame to frame, beside its network's own time and beside its rivals.

    python scripts/benchmark.py --json FILE [--video FILE] [--inputs 480x270 960x540 1920x1080]
        [--formats YUV420P8 YUV420P10] [--filters rafrvsr …] [--figures speed first network] [--seconds 10]
        [--least 1000] [--device cuda]

A row is a filter, an input size and a format. Every figure of it comes from a process of its own:
- `fps` through vspipe, output discarded, and `fps_python` through clip.frames(), each timed for --seconds after
  a warm-up, and for --least frames (inputs larger than 960x540 may have fewer), over 200 distinct frames that lie in
  memory and are played over and over (the filter `source` is that clip alone); `cpu_cores` that vspipe keeps busy, and
  `peak_gb` of device memory meanwhile by the driver's count, of which `context_gb` is what an idle process of PyTorch
  holds. Nothing else may run on the card.
- `seek_ms_*`: 50 random frames, one at a time, for three minutes at most.
- `first_frame_s`: from vspipe's start to the first frame, and `first_frame_cold_s` with no kernel compiled before.
- `network_fps`: replays of CUDA graphs of the recurrent step and of a group's flow, per frame: no pixels, no copies.

It is for GPUs: a CPU takes seconds a frame, so there --least must be given, and inputs should be thumbnails.
Rivals that are not installed are named; they run with random weights, for only speed is compared. FILE is added to,
row by row, so that runs can be cut short and done in pieces; figures of another machine, software or clip are refused.
`first_frame_s` is mostly imports, which take far longer without the compiled bytecode that pip leaves.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from benchmarking import pipe
from benchmarking.child import ask
from benchmarking.filters import FILTERS
from benchmarking.jobs import BURST, LIMIT, WARM_UP, Job, RowError
from benchmarking.memory import Card, Peak

type Figures = dict[str, object]

GB = 1e9
LEAST = 1000
KEY = ("filter", "input", "format")
FIGURES = ("speed", "first", "network")
"""What is measured of a row, in this order: playing and seeking, the first frame, the network alone."""


class Results:
    """The file of results: conditions, and rows that are written as they come."""

    def __init__(self, file: Path, conditions: Figures) -> None:
        self.file, self.conditions, self.rows = file, conditions, list[Figures]()
        if file.exists():
            known = json.loads(file.read_text())
            self.rows = known.pop("rows")
            if any(known.get(name) != conditions[name] for name in conditions if name != "context_gb"):
                sys.exit(f"{file} was measured under other conditions, which must not be mixed: {known}")

    def take(self, job: Job, figures: Iterator[Figures], *, anew: bool) -> None:
        """Add a row, or replace it, figure by figure: all of it `anew`, or what is found."""
        key: Figures = {name: getattr(job, name) for name in KEY}
        old = next((old for old in self.rows if key.items() <= old.items()), key)
        row = dict(key if anew else old)
        row.pop("error", None)
        self.rows = [other for other in self.rows if other is not old] + [row]
        try:
            for found in figures:
                row |= {name: _short(value) for name, value in found.items()}
                self.save()
        except RowError as error:
            row["error"] = str(error)
            self.save()
        print(*(f"{name} {value}" for name, value in row.items()), flush=True)

    def save(self) -> None:
        """Write what there is so far."""
        self.file.write_text(json.dumps(self.conditions | {"rows": self.rows}, indent=1) + "\n")


def _short(value: object) -> object:
    """Four digits are more than a measurement repeats."""
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def measured(job: Job, card: Card | None, figures: Sequence[str]) -> Iterator[Figures]:
    """The figures of one row, as they come."""
    if "speed" in figures:
        played = ask("frames", job)
        yield played
        fps = played["fps_python"]
        least = job.count + 1.5 * fps  # up to a second goes by before vspipe's first report, and after its last
        frames = BURST * math.ceil(max(least, fps * job.seconds) / BURST)
        piped, peak = watched(card, partial(pipe.play, job, frames))
        yield {**piped, "peak_gb": peak}
    if job.filter == "source":
        return
    if "first" in figures:
        with tempfile.TemporaryDirectory() as caches:
            for name in ("first_frame_cold_s", "first_frame_s"):
                yield {name: pipe.first_frame(job, Path(caches))}
    if "network" in figures and FILTERS[job.filter].variant is not None:
        yield network(replace(job, format="any"))


@cache
def network(job: Job) -> Figures:
    """The network's own time, which all formats share."""
    return ask("network", job)


def watched[T](card: Card | None, work: Callable[[], T]) -> tuple[T, float | None]:
    """What `work` returns, and by how many GB the card's memory was fuller meanwhile."""
    if card is None:
        return work(), None
    used = Peak(card.used, interval=0.02)
    before = used.value
    with used.watched():
        found = work()
    return found, (used.value - before) / GB


def conditions(job: Job) -> tuple[Figures, Card | None]:
    """What must not change from row to row, and the card's memory where it can be had."""
    facts = ask("machine", job)
    uuid, card, context = facts.pop("uuid"), None, None
    if uuid is not None:
        try:
            card = Card(uuid)
            context = watched(card, partial(ask, "machine", job))[1]
        except OSError as error:
            print(f"device memory is not measured: {error}")
    clip = Path(job.video).name if job.video else "samples/clip.vpy"
    return {**facts, "context_gb": _short(context), "clip": f"{clip}, {job.frames} frames"}, card


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--video", type=Path, help="of at least 200 frames; without one, the project's own test clip")
    parser.add_argument("--inputs", nargs="+", default=["480x270", "960x540", "1920x1080"])
    parser.add_argument("--formats", nargs="+", default=["YUV420P8", "YUV420P10"])
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=FIGURES, help="of old rows, repeat only these")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--least", type=int, help=f"frames timed, whatever time that takes; {LEAST} if left out")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    missing = sorted({FILTERS[name].package for name in options.filters if not find_spec(FILTERS[name].package)})
    for package in missing:
        print(f"{package} is not installed")
    jobs = [
        Job(
            filter=name,
            input=size,
            format=fmt,
            device=options.device,
            seconds=options.seconds,
            least=LEAST if options.least is None else options.least,
            video=str(options.video.resolve()) if options.video else None,
        )
        for fmt in options.formats
        for size in options.inputs
        for name in options.filters
        if FILTERS[name].package not in missing
    ]
    if not jobs:
        sys.exit("nothing is left to measure")
    try:
        facts, card = conditions(jobs[0])
    except RowError as error:
        sys.exit(f"benchmark: {error}")
    if facts["machine"] == "CPU" and options.least is None:
        sys.exit(
            f"benchmark: no GPU is used, and on the CPU {WARM_UP} + {LEAST} frames take longer than a row's limit of "
            f"{LIMIT} s; run it on a GPU, or give fewer frames of thumbnails: --inputs 16x16 --least 20"
        )
    results = Results(options.json, facts)
    for job in jobs:
        results.take(job, measured(job, card, options.figures), anew=tuple(options.figures) == FIGURES)


if __name__ == "__main__":
    main()
