"""Split encodes where Ray is lost, killed or cannot be used. Each test has a Ray of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.encode.media import FFV1, heed, pixels, script
from tests.encode.test_parallel import MEMORY, PLAIN, SLOW, expected, start_ray
from vs_rafrvsr.encode import Progress
from vs_rafrvsr.encode.parallel import encode_split
from vs_rafrvsr.errors import EncodeError

ray = pytest.importorskip("ray")


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """Two that work, besides the head."""
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    nodes = start_ray(num_cpus=0, _system_config=soon)
    for _ in range(2):
        nodes.add_node(num_cpus=1, **MEMORY)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


def test_a_node_that_is_lost_is_made_good(
    two_nodes: Any,  # noqa: ANN401  (Ray's)
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, out = script(tmp_path, SLOW.replace("length=40", "length=80")), tmp_path / "out.mkv"
    both = threading.Event()

    def lose_one(progress: Progress) -> None:
        if len(progress.workers) == 2 and not both.is_set():
            both.set()
            here = ray.get_runtime_context().get_node_id()
            other = next(node for node in two_nodes.worker_nodes if node.node_id != here)
            two_nodes.remove_node(other, allow_graceful=False)

    encode_split(path, out, workers=2, ffmpeg_options=FFV1, address=two_nodes.address, progress=lose_one)
    assert both.is_set()
    assert "attempt 2 of 3: the worker was lost" in caplog.text
    assert pixels(out) == expected(path)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    command = [sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(out), "--workers", "2", "--", *FFV1]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    pieces = tmp_path / "out.mkv.pieces"
    wait_for(lambda: len(list(pieces.glob("0*.json"))) >= 2)
    driver = psutil.Process(process.pid)
    started = driver.children(recursive=True)
    for one in (driver, *started):  # Ray's workers would make their pieces to the end
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(started, timeout=60)
    kept = {p: p.stat().st_mtime_ns for p in pieces.glob("0*.mkv") if p.with_suffix(".json").exists()}
    seen: list[int] = []

    def look(progress: Progress) -> None:
        seen.append(progress.frames)
        assert all(p.stat().st_mtime_ns == mtime for p, mtime in kept.items())

    encode_split(path, out, workers=1, ffmpeg_options=FFV1, progress=look)
    assert seen[0] >= 10
    assert pixels(out) == expected(path)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_what_is_kept(sent: signal.Signals, tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    command = [sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(out), "--workers", "1", "--", *FFV1]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heed
    )
    pieces = tmp_path / "out.mkv.pieces"
    wait_for(lambda: list(pieces.glob("0*.json")))
    process.send_signal(sent)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert said.splitlines()[-1] == "interrupted"
    assert f"Finished pieces are in {pieces}; the same command goes on from there" in said
    assert "SIGTERM received" not in printed + said
    assert not out.exists()


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def wait_for(condition: Any) -> None:  # noqa: ANN401  (a callable)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited a minute in vain")


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
    encode_split(path, out, workers=1, ffmpeg_options=FFV1, progress=lambda progress: seen.append(progress.frames))
    assert seen[0] == 20
    assert pixels(out) == expected(path)


def test_ray_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match="1 or more"):
        encode_split(path, out, workers=0)
    with pytest.raises(EncodeError, match=r"127\.0\.0\.1:1 cannot be used"):
        encode_split(path, out, workers=1, address="127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EncodeError, match=r"pip install '\.\[ray\]'"):
        encode_split(path, out, workers=1)
