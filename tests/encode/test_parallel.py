"""Split encodes on a running Ray: the frames are those of one vspipe run, whatever happens to the workers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.encode.media import FFV1, pixels, script, times, vspipe_pixels
from vs_rafrvsr.encode import Progress
from vs_rafrvsr.encode.parallel import encode_split
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.errors import EncodeError

ray = pytest.importorskip("ray")

CLIP = """
clip = core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=40)
clip = core.std.FrameEval(clip, lambda n, c=clip: core.std.BlankClip(c, color=[16 + 5 * n % 200, 128, 3 * n % 200]))
"""
PLAIN = CLIP + "clip.set_output()"
SLOW = CLIP + "import time\ncore.std.ModifyFrame(clip, clip, lambda n, f: time.sleep(0.2) or f).set_output()"
UPSCALED = CLIP + "core.rafrvsr.Upscale(clip, chunk=8, warmup=3, leadin=2, flow_updates=1).set_output()"
FAILS = """
def fail(n, f):
    if n == 33:
        raise RuntimeError("frame 33 is bad")
    return f
core.std.ModifyFrame(clip, clip, fail).set_output()
"""


def expected(path: Path) -> bytes:
    return vspipe_pixels(find_vspipe(), path)


def workers_named(name: str) -> list[psutil.Process]:
    """Ray's workers of this process that run a function."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if f"ray::{name}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


MEMORY = {"object_store_memory": 100 << 20}


def start_ray(**head: object) -> Any:  # noqa: ANN401  (Ray's)
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head, **MEMORY})


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    """Address of a Ray that several tests use, for its start takes seconds."""
    nodes = start_ray(num_cpus=4, num_gpus=torch.cuda.device_count())
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(scope="module")
def upscaled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return expected(script(tmp_path_factory.mktemp("one"), UPSCALED))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_frames_are_those_of_one_run(workers: int, running: str, upscaled: bytes, tmp_path: Path) -> None:
    path, out = script(tmp_path, UPSCALED), tmp_path / "out.mkv"
    seen: list[tuple[Progress, Mapping[str, Progress]]] = []
    done = encode_split(
        path, out, workers=workers, address=running, ffmpeg_options=FFV1, progress=lambda *both: seen.append(both)
    )
    assert pixels(out) == upscaled
    assert times(out) == pytest.approx([n / 24 for n in range(40)], abs=0.0006)
    assert done.frames == 40
    assert (seen[0][0].frames, seen[-1][0].frames) == (0, 40)
    assert max(len(by_worker) for _, by_worker in seen) <= workers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mkv", "script.vpy"]


def test_workers_killed_at_random_change_nothing(running: str, tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    killed: list[int] = []

    def kill_now_and_then(progress: Progress, workers: Mapping[str, Progress]) -> None:
        candidates = workers_named("_make")
        if workers and candidates and len(killed) < 2 and random.random() < 0.5:
            victim = random.choice(candidates)
            victim.kill()
            killed.append(victim.pid)

    encode_split(path, out, workers=2, address=running, ffmpeg_options=FFV1, progress=kill_now_and_then)
    assert len(killed) == 2
    assert pixels(out) == expected(path)


def test_a_piece_that_fails_three_times_stops_the_run(
    running: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counted = CLIP + "with open('tries', 'a') as tries:\n    tries.write('x')\n"
    path, out = script(tmp_path, counted + FAILS), tmp_path / "out.mkv"
    with pytest.raises(
        EncodeError, match=r"(?s)frames 20 to 39 failed 3 times.*vspipe failed.*frame 33 is bad.*go"
    ) as e:
        encode_split(path, out, workers=1, address=running, ffmpeg_options=FFV1)
    assert str(tmp_path / "out.mkv.pieces") in str(e.value)
    assert len(list((tmp_path / "out.mkv.pieces").glob("0*.mkv"))) == 1
    assert (tmp_path / "tries").read_text().count("x") == 1 + 1 + 3  # reading, one piece, the other three times
    assert not out.exists()
    for attempt in (2, 3):
        assert re.search(rf"(?s)frames 20 to 39 are made again .* {attempt} of 3: .*frame 33 is bad", caplog.text)


def test_what_cannot_be_split(running: str, tmp_path: Path) -> None:
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match="cannot be had"):
        encode_split(path, out, workers=1, address=running, gpus_per_worker=1.5)
    with pytest.raises(EncodeError, match="cannot be written"):
        encode_split(path, tmp_path / "absent" / "out.mkv", workers=1, address=running)
    empty = script(tmp_path, CLIP + "clip[5:5].set_output()", "empty.vpy")
    with pytest.raises(EncodeError, match=r"(?s)reading the script failed.*vspipe failed"):
        encode_split(empty, out, workers=1, address=running)
    changing = "core.std.Splice([clip, clip.resize.Point(64, 64)], mismatch=True).set_output()"
    with pytest.raises(EncodeError, match="changes its format or size"):
        encode_split(script(tmp_path, CLIP + changing, "changing.vpy"), out, workers=1, address=running)
    out.touch()
    with pytest.raises(EncodeError, match="--overwrite"):
        encode_split(path, out, workers=1, address=running)
