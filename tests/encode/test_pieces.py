"""Pieces are kept only for their own encode, only when whole, and join to what one encode makes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.encode.media import FFV1, X264, pixels, probe, script, streams, times, vspipe_pixels
from tests.encode.test_source import chapters, languages
from vs_rafrvsr.encode import Progress, encode
from vs_rafrvsr.encode.join import Mux, join
from vs_rafrvsr.encode.parallel import _join_all, encode_split
from vs_rafrvsr.encode.pieces import Piece, WorkFolder, work_path
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.encode.render import Job, read_clip
from vs_rafrvsr.encode.source import video_delay
from vs_rafrvsr.encode.timing import edges
from vs_rafrvsr.errors import EncodeError

CLIP = """
clip = core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=20, fpsnum=24000, fpsden=1001)
clip = core.std.FrameEval(clip, lambda n, c=clip: core.std.BlankClip(c, color=[16 + 3 * n, 128, 128]))
clip = clip.std.SetFrameProps(_SARNum=12, _SARDen=11, _Matrix=1, _Range=0, _ChromaLocation=0)
"""
STEADY = CLIP + "clip.set_output()"
VARYING = CLIP + (
    "slow, fast = clip[:10], clip[10:].std.AssumeFPS(fpsnum=30000, fpsden=1001)\n"
    "core.std.Splice([slow, fast], mismatch=True).set_output()"
)
UPSCALED = """
clip = core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=3)
core.rafrvsr.Upscale(clip, chunk=2, warmup=1, leadin=1{}).set_output()
"""


def job(path: Path, options: tuple[str, ...] = FFV1, **arguments: str) -> Job:
    return Job(script=path, arguments=arguments, ffmpeg_options=options)


def open_folder(out: Path, given: Job, workers: int = 1) -> WorkFolder:
    path = out.with_name(f"{out.name}.pieces")
    path.mkdir(exist_ok=True)
    return WorkFolder.open(path, out.suffix, given, read_clip(given), workers)


def make_all(folder: WorkFolder) -> list[Piece]:
    for frames in folder.plan:
        folder.make(frames, lambda _: None)
    pieces = [folder.finished(frames) for frames in folder.plan]
    return [piece for piece in pieces if piece is not None]


def join_all(folder: WorkFolder, out: Path, source: Path | None = None, delay: Fraction = Fraction(0)) -> None:
    pieces = make_all(folder)
    assert len(pieces) == len(folder.plan) > 1
    times = edges([d for piece in pieces for d in piece.durations], folder.clip.rate)
    mux = Mux(rate=folder.clip.rate, source=source, delay=delay, ffmpeg_options=folder.job.ffmpeg_options)
    join([piece.path for piece in pieces], out, mux, times=times)


@pytest.mark.parametrize("body", [STEADY, VARYING], ids=["constant", "variable"])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mkv", FFV1),
        ("mkv", (*X264, "-bf", "3", "-preset", "fast", "-qp", "0", "-vf", "hflip")),
        ("mp4", (*X264, "-bf", "3", "-preset", "fast", "-qp", "0")),
        ("mkv", ("-c:v", "libx265", "-preset", "fast", "-x265-params", "lossless=1:log-level=none")),
    ],
)
def test_joined_pieces_are_one_encode(body: str, suffix: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = script(tmp_path, body)
    one, joined = tmp_path / f"one.{suffix}", tmp_path / f"joined.{suffix}"
    encode(path, one, ffmpeg_options=options)
    join_all(open_folder(joined, job(path, options)), joined)
    assert pixels(joined) == pixels(one)
    assert times(joined) == times(one)
    ends = [float(probe(path, "-show_format")["format"]["duration"]) for path in (joined, one)]
    assert ends[0] == pytest.approx(ends[1], abs=0.0015)
    kept = ("codec_name", "r_frame_rate", "sample_aspect_ratio", "color_range", "color_space", "chroma_location")
    for name in kept:
        assert streams(joined, "video")[0].get(name) == streams(one, "video")[0].get(name)
    assert pixels(one) == vspipe_pixels(find_vspipe(), path) or "-vf" in options


def test_what_comes_from_the_source_comes_once_and_in_step(source: Path, tmp_path: Path) -> None:
    path, one, joined = script(tmp_path, STEADY), tmp_path / "one.mkv", tmp_path / "joined.mkv"
    encode(path, one, source=source, ffmpeg_options=FFV1)
    join_all(open_folder(joined, job(path)), joined, source, video_delay(source))
    assert [s["codec_name"] for s in streams(joined, "audio")] == ["flac", "flac"]
    assert languages(joined, "subtitle") == ["eng"]
    assert streams(joined, "attachment")[0]["tags"]["filename"] == "font.ttf"
    assert chapters(joined) == chapters(one) == [("0.000000", "One"), ("1.000000", "Two")]
    for kind in ("v", "a", "s"):
        assert times(joined, kind) == times(one, kind)


def test_pieces_of_different_encoders_are_not_joined(tmp_path: Path) -> None:
    path, out = script(tmp_path, STEADY), tmp_path / "out.mkv"
    folder = open_folder(out, job(path, X264))
    make_all(folder)
    replace(folder, job=job(path, FFV1)).make(folder.plan[1], lambda _: None)
    with pytest.raises(EncodeError, match="same ffmpeg"):
        join_all_made(folder, out)


def join_all_made(folder: WorkFolder, out: Path) -> None:
    files, durations = [folder.file(frames) for frames in folder.plan], [1 / folder.clip.rate] * folder.clip.frames
    mux = Mux(rate=folder.clip.rate, source=None, delay=Fraction(0), ffmpeg_options=X264)
    join(files, out, mux, times=edges(durations, folder.clip.rate))


def test_the_plan_of_an_interrupted_run_is_kept(tmp_path: Path) -> None:
    given = job(script(tmp_path, STEADY))
    first = open_folder(tmp_path / "out.mkv", given, workers=1)
    first.make(first.plan[0], lambda _: None)
    left = [first.file(first.plan[1]).with_suffix(f".1.part.{suffix}") for suffix in ("mkv", "json")]
    for file in left:
        file.touch()
    again = open_folder(tmp_path / "out.mkv", given, workers=5)
    assert again.plan == first.plan
    assert again.finished(again.plan[0]) is not None
    assert not any(file.exists() for file in left)


@pytest.mark.parametrize("harm", ["cut", "record cut", "gone", "a bit"])
def test_a_piece_that_is_not_whole_is_not_finished(harm: str, tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "out.mkv", job(script(tmp_path, STEADY)))
    frames = folder.plan[0]
    folder.make(frames, lambda _: None)
    assert folder.finished(frames) is not None
    harmed = folder.file(frames).with_suffix(".json" if "record" in harm else ".mkv")
    if harm == "gone":
        harmed.unlink()
    elif harm == "a bit":
        content = harmed.read_bytes()
        harmed.write_bytes(content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:])
    else:
        harmed.write_bytes(harmed.read_bytes()[:-100])
    assert folder.finished(frames) is None
    folder.make(frames, lambda _: None)
    assert folder.finished(frames) is not None


def test_a_script_that_is_edited_during_the_run_is_not_mixed_in(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "out.mkv", job(script(tmp_path, STEADY)), workers=2)
    folder.make(folder.plan[0], lambda _: None)

    def edit(_: Progress) -> None:
        other_script(folder.job)

    with pytest.raises(EncodeError, match=r"script\.vpy was changed during the run.*put it back"):
        folder.make(folder.plan[1], edit)
    with pytest.raises(EncodeError, match="was changed during the run"):
        folder.make(folder.plan[2], lambda _: None)
    assert [folder.finished(frames) is not None for frames in folder.plan[:3]] == [True, False, False]


def test_two_runs_on_one_output_are_refused(tmp_path: Path) -> None:
    path, out = script(tmp_path, STEADY), tmp_path / "out.mkv"
    with work_path(out), pytest.raises(EncodeError, match="another run is making"):
        encode_split(path, out, workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["script.vpy"]


def test_a_record_that_is_half_written_is_no_piece(tmp_path: Path) -> None:
    with work_path(tmp_path / "out.mkv") as path:
        (path / "00000000-00000240.1.part.json").touch()
    assert list(tmp_path.iterdir()) == []


def other_script(given: Job) -> Job:
    given.script.write_text(given.script.read_text() + "# edited\n")
    return given


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_script, "of another script"),
        (lambda given: replace(given, arguments={"x": "1"}), "of another arguments"),
        (lambda given: replace(given, ffmpeg_options=X264), "of another ffmpeg options"),
    ],
)
def test_pieces_of_another_encode_are_not_mixed_in(change: Any, named: str, tmp_path: Path) -> None:  # noqa: ANN401
    given, out = job(script(tmp_path, STEADY)), tmp_path / "out.mkv"
    folder = open_folder(out, given)
    folder.make(folder.plan[0], lambda _: None)
    with pytest.raises(EncodeError, match=named):
        open_folder(out, change(given))
    assert folder.finished(folder.plan[0]) is not None


def test_other_weights_are_another_encode(tmp_path: Path) -> None:
    """The same path in the script, another file there."""
    from vs_rafrvsr import weights
    from vs_rafrvsr.models.registry import MODELS

    header, tensors = weights.load(MODELS["rafrvsr"].path)
    shutil.copy(MODELS["rafrvsr"].path, tmp_path / "w.safetensors")
    given = job(script(tmp_path, UPSCALED.format(f", weights=r'{tmp_path / 'w.safetensors'}'")))
    open_folder(tmp_path / "out.mkv", given)
    weights.save(tmp_path / "w.safetensors", replace(header, degradation="another"), tensors)
    with pytest.raises(EncodeError, match="of another clip"):
        open_folder(tmp_path / "out.mkv", given)


def test_a_worker_with_another_clip_is_refused(tmp_path: Path) -> None:
    """Tiles chosen from another card's memory, for example."""
    path = script(tmp_path, UPSCALED.format(", tile=[int(tile), 32]").replace("width=32", "width=40"))
    folder = open_folder(tmp_path / "out.mkv", job(path, tile="32"))
    folder.make(folder.plan[0], lambda _: None)
    with pytest.raises(EncodeError, match=r"_RafrvsrNumerics = .*whole frames, .*tiles of 32x32.*explicit arguments"):
        replace(folder, job=job(path, tile="40")).make(folder.plan[1], lambda _: None)
    assert folder.finished(folder.plan[1]) is None


def test_pieces_of_different_cards_are_joined_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They agree to rounding only."""
    made = "_RafrvsrNumerics='same', _RafrvsrDevice=os.environ['CARD']"
    given = job(script(tmp_path, f"import os\n{CLIP}clip.std.SetFrameProps({made}).set_output()"))
    out = tmp_path / "out.mkv"
    for place, card in enumerate("AB"):
        monkeypatch.setenv("CARD", card)
        folder = open_folder(out, given, workers=2)
        folder.make(folder.plan[place], lambda _: None)
    _join_all(folder, out, Mux(rate=folder.clip.rate, source=None, delay=Fraction(0), ffmpeg_options=FFV1))
    assert "made in several ways: same on A; same on B. " in caplog.text
    assert len(times(out)) == 20


def test_a_piece_that_went_on_in_smaller_tiles_is_refused_and_a_whole_encode_is_not(tmp_path: Path) -> None:
    """It would join, but not bit for bit. vspipe asks for several frames at once, and any of them may fail first."""
    path = script(tmp_path, CLIP + "(clip[:15] + clip[15:].std.SetFrameProps(_RafrvsrTileFallback=1)).set_output()")
    folder = open_folder(tmp_path / "out.mkv", job(path), workers=2)
    folder.make(range(10), lambda _: None)
    with pytest.raises(EncodeError, match=r"frame 1[5-9] was made in smaller tiles.*a smaller tile=.*fewer workers"):
        folder.make(range(10, 20), lambda _: None)
    assert folder.finished(range(10, 20)) is None
    assert encode(path, tmp_path / "whole.mkv", ffmpeg_options=FFV1).frames == 20


def test_a_piece_with_missing_frames_is_refused(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "out.mkv", job(script(tmp_path, STEADY), (*FFV1, "-frames:v", "1")))
    with pytest.raises(EncodeError, match="wrote 1 of"):
        folder.make(folder.plan[0], lambda _: None)
    assert sorted(path.name for path in folder.path.iterdir()) == ["manifest.json"]


def test_properties_that_are_no_number_are_like_themselves(tmp_path: Path) -> None:
    given = job(script(tmp_path, CLIP + "clip.std.SetFrameProps(score=float('nan')).set_output()"))
    open_folder(tmp_path / "out.mkv", given)
    folder = open_folder(tmp_path / "out.mkv", given)
    folder.make(folder.plan[0], lambda _: None)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out.mkv.pieces"
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    with (
        pytest.raises(EncodeError, match="is a folder of something else; move it away"),
        work_path(tmp_path / "out.mkv"),
    ):
        raise AssertionError("it must not come here")
    assert (folder / "notes.txt").read_text() == "precious"


def test_a_manifest_that_is_damaged_is_not_trusted(tmp_path: Path) -> None:
    given = job(script(tmp_path, STEADY))
    folder = open_folder(tmp_path / "out.mkv", given)
    manifest = folder.path / "manifest.json"
    assert json.loads(manifest.read_text())["pieces"]
    manifest.write_text("{")
    with pytest.raises(EncodeError, match="of another manifest"):
        open_folder(tmp_path / "out.mkv", given)
