#!/usr/bin/env python
"""The network's own time on one GPU, piece by piece: PyTorch's kernels, torch.compile, ours; beside the chip's floor.

    python scripts/bench_network.py [--model rafrvsr] [--sizes 480x270 960x540] [--tune] [--no-compile] [--flow]
        [--json FILE]
    TRITON_INTERPRET=1 python scripts/bench_network.py --rehearse        (on a CPU: does the script run at all?)

Times are medians of CUDA graph replays. The floor of a piece is the larger of its operations over the card's measured
rate in a large fp16 matrix product, and of the bytes that it must read and write once over the memory's measured rate.
`error` is ||found - fp32|| / ||fp32||. `--tune` times every candidate of step_pieces.CANDIDATES first and goes on with
the best; the table `step.HOPPER` is filled in by hand from it. `--flow` leaves out all but encoding and flow. FILE gets
the card and its rates, the model with its weights' fingerprint and flow_updates, and the times with their floors.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch
from benchmarking.flow_pieces import flows
from benchmarking.identity import DEFAULT, identity
from benchmarking.network import subject
from benchmarking.rows import Bench
from benchmarking.step_pieces import compiled, pieces, tune
from benchmarking.whole import whole

from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.options import Options


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default=DEFAULT)
    parser.add_argument("--sizes", nargs="+", default=["480x270", "960x540"])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --rehearse runs on the CPU")
    logging.basicConfig(level=logging.INFO)
    torch.manual_seed(0)
    runtime = Runtime.choose(Options(device="cpu" if options.rehearse else "cuda"))
    with runtime.entered():  # its stream, and its numeric settings: fp32 is fp32, not TF32
        bench = Bench(options.rehearse, options.json, {"model": "toy"} if options.rehearse else identity(options.model))
        sizes = ["18x16"] if options.rehearse else options.sizes
        subjects = [subject(size, bench.device, options.model, toy=options.rehearse) for size in sizes]
        for s in subjects:
            if not options.flow:
                whole(s, bench)
                pieces(s, bench, tune(s, bench) if options.tune else None)
            flows(s, bench)
        if not (options.no_compile or options.rehearse or options.flow):
            for s in subjects:
                compiled(s, bench)
    bench.save()


if __name__ == "__main__":
    main()
