"""Split encodes on Ray: the frames are those of one vspipe run, whatever happens to the workers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

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


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_frames_are_those_of_one_run(workers: int, tmp_path: Path) -> None:
    path, out = script(tmp_path, UPSCALED), tmp_path / "out.mkv"
    seen: list[tuple[Progress, Mapping[str, Progress]]] = []
    done = encode_split(path, out, workers=workers, ffmpeg_options=FFV1, progress=lambda *reports: seen.append(reports))
    assert pixels(out) == expected(path)
    assert times(out) == pytest.approx([n / 24 for n in range(40)], abs=0.0006)
    assert done.frames == 40
    assert (seen[0][0].frames, seen[-1][0].frames) == (0, 40)
    assert max(len(by_worker) for _, by_worker in seen) <= workers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mkv", "script.vpy"]


def test_workers_killed_at_random_change_nothing(tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    killed: list[int] = []

    def kill_now_and_then(progress: Progress, workers: Mapping[str, Progress]) -> None:
        candidates = workers_named("_make")
        if workers and candidates and len(killed) < 2 and random.random() < 0.5:
            victim = random.choice(candidates)
            victim.kill()
            killed.append(victim.pid)

    encode_split(path, out, workers=2, ffmpeg_options=FFV1, progress=kill_now_and_then)
    assert len(killed) == 2
    assert pixels(out) == expected(path)


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """Two that work, besides the head."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 << 20}
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": soon, **memory}
    nodes: Any = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        nodes.add_node(num_cpus=1, **memory)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_node_that_is_lost_is_made_good(two_nodes: Any, tmp_path: Path) -> None:  # noqa: ANN401  (Ray's)
    path, out = script(tmp_path, SLOW.replace("length=40", "length=80")), tmp_path / "out.mkv"
    both = threading.Event()

    def lose_one(progress: Progress, workers: Mapping[str, Progress]) -> None:
        if len(workers) == 2 and not both.is_set():
            both.set()
            here = ray.get_runtime_context().get_node_id()
            other = next(node for node in two_nodes.worker_nodes if node.node_id != here)
            two_nodes.remove_node(other, allow_graceful=False)

    encode_split(path, out, workers=2, ffmpeg_options=FFV1, address=two_nodes.address, progress=lose_one)
    assert both.is_set()
    assert pixels(out) == expected(path)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    command = [sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(out), "--workers", "2", "--", *FFV1]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    pieces = tmp_path / "out.mkv.pieces"
    wait_for(lambda: len(list(pieces.glob("0*.json"))) >= 2)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(p.is_running() and p.name() in ("vspipe", "ffmpeg") for p in started))
    kept = {p: p.stat().st_mtime_ns for p in pieces.glob("0*.mkv") if p.with_suffix(".json").exists()}
    seen: list[int] = []

    def look(progress: Progress, workers: Mapping[str, Progress]) -> None:
        seen.append(progress.frames)
        assert all(p.stat().st_mtime_ns == mtime for p, mtime in kept.items())

    encode_split(path, out, workers=1, ffmpeg_options=FFV1, progress=look)
    assert seen[0] >= 10
    assert pixels(out) == expected(path)


def wait_for(condition: Any) -> None:  # noqa: ANN401  (a callable)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited a minute in vain")


def test_a_piece_that_fails_three_times_stops_the_run(tmp_path: Path) -> None:
    counted = CLIP + "with open('tries', 'a') as tries:\n    tries.write('x')\n"
    path, out = script(tmp_path, counted + FAILS), tmp_path / "out.mkv"
    with pytest.raises(
        EncodeError, match=r"(?s)frames 20 to 39 failed 3 times.*vspipe failed.*frame 33 is bad.*go"
    ) as e:
        encode_split(path, out, workers=1, ffmpeg_options=FFV1)
    assert str(tmp_path / "out.mkv.pieces") in str(e.value)
    assert len(list((tmp_path / "out.mkv.pieces").glob("0*.mkv"))) == 1
    assert (tmp_path / "tries").read_text().count("x") == 1 + 1 + 3  # reading, one piece, the other three times
    assert not out.exists()


def test_a_full_disk_is_named_and_what_is_finished_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ffmpeg whose disk is full from the second piece on, until the file `full` is gone."""
    real, full = shutil.which("ffmpeg"), tmp_path / "full"
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "ffmpeg"
    fake.write_text(
        "#!/bin/bash\n"
        f'if [[ -e "{full}" && "${{@: -1}}" == */0000002* ]]; then set -- "${{@:1:$#-1}}" -f matroska /dev/full; fi\n'
        f'exec "{real}" "$@"\n'
    )
    fake.chmod(0o755)
    full.touch()
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match=r"(?s)frames 20 to 39 failed.*No space left on device.*the same command"):
        encode_split(path, out, workers=1, ffmpeg_options=FFV1)
    full.unlink()
    seen: list[int] = []
    encode_split(path, out, workers=1, ffmpeg_options=FFV1, progress=lambda all_, _: seen.append(all_.frames))
    assert seen[0] == 20
    assert pixels(out) == expected(path)


def test_ray_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match="1 or more"):
        encode_split(path, out, workers=0)
    with pytest.raises(EncodeError, match=r"127\.0\.0\.1:1 cannot be used"):
        encode_split(path, out, workers=1, address="127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EncodeError, match=r"vapoursynth-rafrvsr\[ray\]"):
        encode_split(path, out, workers=1)


def test_what_cannot_be_split(tmp_path: Path) -> None:
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match="cannot be had"):
        encode_split(path, out, workers=1, gpus_per_worker=1.5)
    with pytest.raises(EncodeError, match="cannot be written"):
        encode_split(path, tmp_path / "absent" / "out.mkv", workers=1)
    empty = script(tmp_path, CLIP + "clip[5:5].set_output()", "empty.vpy")
    with pytest.raises(EncodeError, match=r"(?s)reading the script failed.*vspipe failed"):
        encode_split(empty, out, workers=1)
    changing = "core.std.Splice([clip, clip.resize.Point(64, 64)], mismatch=True).set_output()"
    with pytest.raises(EncodeError, match="changes its format or size"):
        encode_split(script(tmp_path, CLIP + changing, "changing.vpy"), out, workers=1)
    out.touch()
    with pytest.raises(EncodeError, match="--overwrite"):
        encode_split(path, out, workers=1)
