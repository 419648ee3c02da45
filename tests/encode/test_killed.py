"""Programs that are killed, pipes that are closed and disks that are full in mid-stream, with the filter at work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.encode.media import FFV1, heed, left_over, programs_of, script
from vs_rafrvsr.encode import Progress, encode
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.errors import EncodeError

LONG = "core.std.BlankClip(width=48, height=32, format=vs.YUV420P8, length=3000).rafrvsr.Upscale().set_output()"


@pytest.fixture(autouse=True)
def no_children() -> Iterator[None]:
    """No test of this file may leave a process, alive or zombie."""
    yield
    assert psutil.Process().children(recursive=True) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_vspipe_heeds_signals_at_once(sent: signal.Signals, tmp_path: Path) -> None:
    command = [find_vspipe(), str(script(tmp_path, LONG)), "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed) as process:
        assert process.stdout is not None
        process.stdout.read(100_000)  # some frames
        process.send_signal(sent)
        process.communicate(timeout=20)
    assert process.returncode == (1 if sent == signal.SIGINT else -sent)


def test_vspipe_ends_when_its_reader_goes_away(tmp_path: Path) -> None:
    command = [find_vspipe(), str(script(tmp_path, LONG)), "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(100_000)
        process.stdout.close()
        assert process.wait(timeout=20) != 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("victim", ["vspipe", "ffmpeg"])
def test_an_encode_whose_program_is_killed_fails_and_says_which(
    victim: str, sent: signal.Signals, tmp_path: Path
) -> None:
    def kill(progress: Progress) -> None:
        for child in psutil.Process().children():
            if child.name() == victim and progress.frames > 1:
                child.send_signal(sent)

    start = time.monotonic()
    with pytest.raises(EncodeError, match=f"{victim} failed"):
        encode(script(tmp_path, LONG), tmp_path / "out.mkv", ffmpeg_options=FFV1, progress=kill)
    assert time.monotonic() - start < 60, "it must not wait for the rest of the clip"
    assert left_over(tmp_path) == []


def test_where_both_programs_fail_both_are_heard(tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(EncodeError, match=r"(?s)vspipe failed \(signal 9\).*ffmpeg failed \(signal 9\)"):
        encode(script(tmp_path, LONG), tmp_path / "out.mkv", ffmpeg_options=FFV1, progress=kill)


def test_an_encode_that_is_killed_takes_its_programs_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vs_rafrvsr", "encode", str(script(tmp_path, LONG)), str(tmp_path / "out.mkv")]
    with subprocess.Popen([*command, "--", *FFV1], stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        programs = programs_of(process)
        process.kill()
    assert psutil.wait_procs(programs, timeout=30)[1] == []


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    """A file system of 256 KiB in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    small = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=256k tmpfs "$1" && shift && "$@"',
        "-",
    ]
    if subprocess.run([*small, str(disk), "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces")
    encode_it = [sys.executable, "-m", "vs_rafrvsr", "encode", str(script(tmp_path, LONG)), str(disk / "out.mkv")]
    noisy = ["--", *FFV1, "-vf", "noise=alls=100:allf=t"]  # does not compress
    look = f'"$@"; status=$?; ls -A "{disk}"; exit $status'
    done = subprocess.run(
        [*small, str(disk), "sh", "-c", look, "-", *encode_it, *noisy],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert done.stdout.split() == []


def test_vspipe_on_a_full_device_fails(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = subprocess.run(
        [find_vspipe(), str(script(tmp_path, LONG)), "/dev/full"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
