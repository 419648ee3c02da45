"""Measurements of the network's pieces, each beside the card's own two rates."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarking.network import Run, milliseconds


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement."""

    size: str
    piece: str
    variant: str
    ms: float
    """Per frame; not a number where it could not be had."""
    tflops: float | None = None
    floor_ms: float | None = None
    """What the card's rates allow at best, for the operations or for the bytes."""
    arithmetic_share: float | None = None
    """Floor of the operations over the time."""
    memory_share: float | None = None
    """Floor of the bytes over the time."""
    error: float | None = None
    note: str = ""

    def __str__(self) -> str:
        def show(value: float | None, form: str) -> str:
            return "" if value is None else format(value, form)

        return (
            f"{self.size:>8} {self.piece:<16} {self.variant:<34} {self.ms:8.3f} ms {show(self.tflops, '6.0f'):>6} "
            f"{show(self.arithmetic_share, '5.0%'):>5} {show(self.memory_share, '5.0%'):>5} "
            f"{show(self.error, '.1e'):>7} {self.note}"
        )


class Bench:
    """Collects rows; knows the card's two rates."""

    def __init__(self, rehearse: bool, json_file: Path | None, network: dict[str, object]) -> None:
        self.rehearse, self.json_file = rehearse, json_file
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.rows: list[Row] = []
        self.facts: dict[str, Any] = {"machine": "cpu" if rehearse else torch.cuda.get_device_name(), **network}
        self.flops, self.bandwidth = self._rates()
        print(f"{self.facts['machine']}: {self.flops / 1e12:.0f} TFLOP/s fp16, {self.bandwidth / 1e12:.2f} TB/s")

    def _rates(self) -> tuple[float, float]:
        if self.rehearse:
            return 1e9, 1e9
        a, b = (torch.randn(8192, 8192, device=self.device, dtype=torch.float16) for _ in range(2))
        source = torch.randn(2**28, device=self.device)
        target = torch.empty_like(source)
        flops = 2 * 8192**3 / (milliseconds(self.device, lambda: a @ b) / 1e3)
        # By a kernel that reads and writes: a copy, once captured in a graph, is left to a slower engine.
        add = milliseconds(self.device, lambda: torch.add(source, 1.0, out=target))
        bandwidth = 2 * source.nbytes / (add / 1e3)
        self.facts |= {"fp16_flops": flops, "bytes_per_s": bandwidth}
        return flops, bandwidth

    def measure(
        self,
        run: Run,
        *,
        size: str,
        piece: str,
        variant: str,
        frames: int = 1,
        work: tuple[float, float] | None = None,
        error: float | None = None,
        note: str = "",
    ) -> Row:
        """Time `run`, which makes `frames` frames, and note it; `work` is (operations, bytes) of one frame."""
        try:
            ms = milliseconds(self.device, run) / frames
        except Exception as failure:  # a variant that fails must not cost the others
            ms, note = float("nan"), f"{type(failure).__name__}: {str(failure)[:160]}"
        flops, size_bytes = work or (0.0, 0.0)
        arithmetic, memory = 1e3 * flops / self.flops, 1e3 * size_bytes / self.bandwidth
        row = Row(
            size=size,
            piece=piece,
            variant=variant,
            ms=ms,
            tflops=flops / ms / 1e9 if flops else None,
            floor_ms=max(arithmetic, memory) if work else None,
            arithmetic_share=arithmetic / ms if flops else None,
            memory_share=memory / ms if size_bytes else None,
            error=error,
            note=note,
        )
        self.note(row)
        return row

    def note(self, row: Row) -> None:
        """Add a row, and write what there is so far: a run that is cut short loses nothing."""
        self.rows.append(row)
        print(row, flush=True)
        self.save()

    def profile(self, run: Run, what: str, top: int = 12) -> None:
        """Print where the device's time goes, run eagerly."""
        if self.rehearse:
            return
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            run()
            torch.cuda.synchronize()
        events = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)[:top]
        table = [(e.key[:100], e.count, e.self_device_time_total / 1e3) for e in events]
        self.facts[f"profile {what}"] = table
        print(f"  {what}:")
        for name, count, ms in table:
            print(f"    {ms:8.3f} ms in {count:4} x {name}", flush=True)

    def save(self) -> None:
        """Write facts and rows."""
        if self.json_file is not None:
            self.json_file.write_text(json.dumps(self.facts | {"rows": [asdict(r) for r in self.rows]}, indent=1))


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative error; anything not a number gives not a number."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())
