"""Split encodes on a running Ray: the frames are those of one vspipe run, whatever happens to the workers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.encode.media import FFV1, X264, ffmpeg, pixels, script, streams, times, vspipe_pixels
from vs_rafrvsr import weights
from vs_rafrvsr.encode import Progress
from vs_rafrvsr.encode.parallel import encode_split
from vs_rafrvsr.encode.pieces import WorkFolder, work_path
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.encode.render import Job, read_clip
from vs_rafrvsr.errors import EncodeError
from vs_rafrvsr.models.registry import MODELS

ray = pytest.importorskip("ray")

CLIP = """
import numpy as np
y, x = np.mgrid[:24, :32]
picture = (126 + 60 * np.sin(x / 5) * np.cos(y / 4) + 40 * np.sin((x + 2 * y) / 3)).astype(np.uint8)
def moved(n, f):
    f = f.copy()
    np.copyto(np.asarray(f[0]), np.roll(picture, (n, 3 * n), (0, 1)))
    return f
clip = core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=40)
clip = core.std.ModifyFrame(clip, clip, moved)
"""
SLEEP = "import time\nclip = core.std.ModifyFrame(clip, clip, lambda n, f: time.sleep(0.2) or f)\n"
OUTPUT = "clip.set_output()"
UPSCALE = "clip = core.rafrvsr.Upscale(clip, chunk=8, warmup=3, leadin=2, flow_updates=1)\n"
PLAIN, SLOW = CLIP + OUTPUT, CLIP + SLEEP + OUTPUT
UPSCALED, SLOWLY_UPSCALED = CLIP + UPSCALE + OUTPUT, CLIP + SLEEP + UPSCALE + OUTPUT
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
    seen: list[Progress] = []
    done = encode_split(path, out, workers=workers, address=running, ffmpeg_options=FFV1, progress=seen.append)
    assert pixels(out) == upscaled
    assert times(out) == pytest.approx([n / 24 for n in range(40)], abs=0.0006)
    assert done.frames == 40
    assert (seen[0].frames, seen[-1].frames) == (0, 40)
    assert max(len(progress.workers) for progress in seen) <= workers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mkv", "script.vpy"]


def test_what_workers_say_is_said_once(running: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, out = script(tmp_path, "print('of every piece')\n" + PLAIN), tmp_path / "out.mkv"
    encode_split(path, out, workers=2, address=running, ffmpeg_options=FFV1)
    assert [record.message for record in caplog.records] == ["vspipe: of every piece"]


@pytest.mark.cuda
@pytest.mark.parametrize(
    "share",
    [0.5, pytest.param(1.0, marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU"))],
)
def test_two_workers_on_one_gpu_or_two_make_the_frames_of_one_run(
    share: float, running: str, upscaled: bytes, tmp_path: Path
) -> None:
    path, out = script(tmp_path, SLOWLY_UPSCALED), tmp_path / "out.mkv"
    seen: list[Progress] = []
    encode_split(
        path, out, workers=2, gpus_per_worker=share, address=running, ffmpeg_options=FFV1, progress=seen.append
    )
    assert pixels(out) == upscaled
    assert max(len(progress.workers) for progress in seen) == 2


def test_workers_killed_at_random_change_nothing(
    running: str, upscaled: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vs_rafrvsr.encode.cluster.ATTEMPTS", 10)  # all may hit the same piece
    path, out = script(tmp_path, SLOWLY_UPSCALED), tmp_path / "out.mkv"
    seed = 7
    chance, killed = random.Random(seed), list[str]()

    def kill_now_and_then(progress: Progress) -> None:
        candidates = workers_named("_make")
        if candidates and len(killed) < 4 and chance.random() < 0.3:
            chance.choice(candidates).kill()
            killed.append(f"at frame {progress.frames}")

    encode_split(path, out, workers=2, address=running, ffmpeg_options=FFV1, progress=kill_now_and_then)
    assert killed, f"seed {seed}"
    assert pixels(out) == upscaled, f"seed {seed}, killed {killed}"


def test_a_piece_whose_worker_is_lost_three_times_stops_the_run(
    running: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kill = (
        "import os\nclip = core.std.ModifyFrame(clip, clip, lambda n, f: n == 33 and os.kill(os.getppid(), 9) or f)\n"
    )
    path, out = script(tmp_path, CLIP + kill + OUTPUT), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match=r"(?s)frames 20 to 39 failed 3 times, last because the worker was lost.*go"):
        encode_split(path, out, workers=1, address=running, ffmpeg_options=FFV1)
    assert "attempt 3 of 3: the worker was lost" in caplog.text
    assert [p.name for p in (tmp_path / "out.mkv.pieces").glob("0*.json")] == ["00000000-00000020.json"]


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A source whose sound ends before the clip, and cannot be copied into MOV."""
    video, sound = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=24"), ("-f", "lavfi", "-i", "sine")
    ffmpeg(*video, *sound, "-t", "1", "-c:a", "flac", tmp_path / "short.mkv")
    return tmp_path / "short.mkv"


def test_a_join_that_loses_frames_is_refused_and_tried_again_without_the_work(
    running: str, short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = script(tmp_path, PLAIN), tmp_path / "out.mkv"
    with pytest.raises(EncodeError, match=r"(?s)wrote 2[45] of 40 frames.*Finished pieces are in .*the same command"):
        encode_split(path, out, workers=1, address=running, source=short, ffmpeg_options=(*FFV1, "-shortest"))
    assert not out.exists()
    done = encode_split(path, out, workers=5, address=running, source=short, ffmpeg_options=(*FFV1, "-c:a", "aac"))
    assert done.fps == 0
    assert re.search("only [1-4] of 5 workers run at once", caplog.text)
    assert pixels(out) == expected(path)
    assert [s["codec_name"] for s in streams(out, "audio")] == ["aac"]


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        ("mkv", (*FFV1, "-t", "1"), r"blank.*wrote 1 of 2 frames"),
        ("mov", X264, "(?s)blank.*flac"),
        ("mkv", (*FFV1, "-filter_complex", "hflip"), "-filter_complex .* use -vf"),
        ("mkv", (*X264, "-pass", "1"), "-pass 1: .* use -crf"),
        ("mkv", (*X264, "-pass:v", "2"), "-pass:v 2: .* use -crf"),
        ("mkv", ("-c:v", "libx265", "-x265-params", "stats=a.log:pass=2"), "pass=2: .* use -crf"),
        ("mkv", ("-c:v", "nonesuch"), "(?s)blank.*nonesuch"),
    ],
)
def test_what_joining_would_refuse_is_refused_before_the_work(
    suffix: str, options: tuple[str, ...], message: str, running: str, short: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    with pytest.raises(EncodeError, match=message):
        encode_split(
            script(tmp_path, PLAIN), tmp_path / f"out.{suffix}", workers=1, address=running, source=short,
            ffmpeg_options=options, progress=seen.append,
        )  # fmt: skip
    assert seen == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["script.vpy", "short.mkv"]


def test_other_weights_behind_a_title_are_said(running: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frame 0, by which pieces of other weights are refused, is not Upscale's."""
    first, second = (weights.load(MODELS["rafrvsr"].path) for _ in range(2))
    file, out = tmp_path / "w.safetensors", tmp_path / "out.mkv"
    weights.save(file, *first)
    own = UPSCALE.replace("(clip", f"(clip, weights=r'{file}'")
    path = script(tmp_path, CLIP + own + "clip = clip.std.RemoveFrameProps()[:1] + clip\n" + OUTPUT)
    given = Job(script=path, arguments={}, ffmpeg_options=list(FFV1))
    with work_path(out) as work:
        folder = WorkFolder.open(work, ".mkv", given, read_clip(given), 1)
        folder.make(folder.plan[0], lambda _: None)
    weights.save(file, replace(second[0], degradation="another"), second[1])
    encode_split(path, out, workers=1, address=running, ffmpeg_options=FFV1)
    assert len(set(re.findall(r"rafrvsr [0-9a-f]{12}, ", caplog.text))) == 2
    assert "made in several ways" in caplog.text


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
        encode_split(path, tmp_path / "absent" / "out.mkv", workers=1, address="127.0.0.1:1")  # before Ray is asked
    empty = script(tmp_path, CLIP + "open('tries', 'a').write('x')\nclip[5:5].set_output()", "empty.vpy")
    with pytest.raises(EncodeError, match=r"(?s)reading the script failed.*vspipe failed"):
        encode_split(empty, out, workers=1, address=running)
    assert (tmp_path / "tries").read_text() == "x"  # once is enough for what is wrong every time
    changing = "core.std.Splice([clip, clip.resize.Point(64, 64)], mismatch=True).set_output()"
    with pytest.raises(EncodeError, match="changes its format or size"):
        encode_split(script(tmp_path, CLIP + changing, "changing.vpy"), out, workers=1, address=running)
    assert not out.with_name("out.mkv.pieces").exists()
    out.touch()
    with pytest.raises(EncodeError, match="--overwrite"):
        encode_split(path, out, workers=1, address=running)
