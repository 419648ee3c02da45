from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.training.fabricated import write_image
from vs_rafrvsr.training import data
from vs_rafrvsr.training.codec import exact


def septuplet(root: Path, name: str, frames: int = 7, height: int = 256, width: int = 448) -> None:
    for i in range(1, frames + 1):
        write_image(root / name / f"im{i}.png", height, width, value=i)


def test_vimeo_septuplets_by_their_list(tmp_path: Path) -> None:
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n00002/0001\n00003/0001\n\n")
    septuplet(tmp_path / "sequences", "00001/0001")
    septuplet(tmp_path / "sequences", "00001/0002", frames=6)
    septuplet(tmp_path / "sequences", "00003/0001")
    (tmp_path / "sequences" / "00003/0001/im4.png").write_bytes(b"no picture")
    (tmp_path / "sep_testlist.txt").write_text("00009/0001")
    reading = data.read_vimeo(tmp_path, data.vimeo_list(tmp_path))
    (source,) = reading.sources
    assert (source.name, source.hr.shape, source.lr) == ("00001/0001", (7, 3, 256, 448), None)
    assert source.hr[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]  # in order, red first
    assert reading.skipped == {
        "00001/0002": "no file im7.png",
        "00002/0001": "no file im1.png",
        "00003/0001": "unreadable image im4.png",
    }
    skipped = "00001/0002: no file im7.png; 00002/0001: no file im1.png; 00003/0001: unreadable image im4.png"
    assert reading.summary() == f"1 read, 3 skipped ({skipped})"
    assert data.Reading(reading.sources).summary() == "1 read, 0 skipped"


def test_vimeo_super_resolution_set_brings_its_lr_frames(tmp_path: Path) -> None:
    septuplet(tmp_path / "target", "00001/0266")
    septuplet(tmp_path / "low_resolution", "00001/0266", height=64, width=112)
    septuplet(tmp_path / "target", "00002/0001")
    septuplet(tmp_path / "low_resolution", "00002/0001", height=128, width=224)
    reading = data.read_vimeo(tmp_path, ["00001/0266", "00002/0001"])
    (source,) = reading.sources
    assert source.lr is not None
    assert source.lr.shape == (7, 3, 64, 112)
    assert "a quarter of its size" in reading.skipped["00002/0001"]


def test_a_subset_is_drawn_once_and_for_all(tmp_path: Path) -> None:
    names = [f"{i:05}/0001" for i in range(100)]
    (tmp_path / "sep_testlist.txt").write_text("\n".join(names))
    drawn = data.vimeo_list(tmp_path, subset=20)
    assert drawn == data.vimeo_list(tmp_path, subset=20) == sorted(set(drawn))
    assert drawn != data.vimeo_list(tmp_path, subset=20, seed=1)
    with pytest.raises(data.DataError, match="100 clips listed, a subset of 101"):
        data.vimeo_list(tmp_path, subset=101)


def test_a_folder_without_vimeo_s_lists_is_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"neither sep_trainlist\.txt nor sep_testlist\.txt"):
        data.vimeo_list(tmp_path)


def test_folders_of_frames(tmp_path: Path) -> None:
    for i in range(8):
        write_image(tmp_path / "good" / f"{i:03}.png", 50, 70, value=10 * i)
    for i in range(3):
        write_image(tmp_path / "short" / f"{i:03}.png", 50, 70)
    for i in range(8):
        write_image(tmp_path / "mixed" / f"{i:03}.png", 48, 64 + 8 * (i % 2))
        write_image(tmp_path / "tiny" / f"{i:03}.png", 31, 200)
    reading = data.read_folders(tmp_path)
    (source,) = reading.sources
    assert source.hr.shape == (8, 3, 48, 64)  # cut to multiples of 8
    assert reading.skipped == {
        "mixed": "frames of different sizes",
        "short": "3 frames, 7 needed",
        "tiny": "200x24, 32 needed",
    }
    (first,) = data.read_folders(tmp_path, limit=1).sources
    assert first.name == "good"


def test_an_empty_file_is_skipped_by_name_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("broken", "whole"):
        for i in range(2):
            write_image(tmp_path / name / f"{i}.png", 48, 64)
    (tmp_path / "broken" / "1.png").write_bytes(b"")
    reading = data.read_folders(tmp_path, shortest=2)
    assert [source.name for source in reading.sources] == ["whole"]
    assert reading.summary() == "1 read, 1 skipped (broken: unreadable image 1.png)"


def test_a_file_that_may_not_be_read_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all, so the refusal is made up."""
    for name in ("locked", "open"):
        write_image(tmp_path / name / "0.png", 48, 64)
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path.parent.name == "locked":
            raise PermissionError(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    assert data.read_folders(tmp_path, shortest=1).skipped == {"locked": "unreadable image 0.png"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", r"index\.json: no JSON"),
        ('[{"file": "a.mp4"}]', r'index\.json: a list of \{file, src\} is needed; it has \{"file": "a\.mp4"\}'),
        ('{"file": "a", "src": "b"}', r'index\.json: a list of \{file, src\} is needed; it has \{"file": "a", "src"'),
        ('[{"file": "a.mp4", "src": "b"}, 3]', r"index\.json: a list of \{file, src\} is needed; it has 3"),
    ],
)
def test_an_index_that_is_none_says_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(data.DataError, match=said):
        data.read_pack(tmp_path)


def test_sides_are_cut_as_a_protocol_or_the_training_asks(tmp_path: Path) -> None:
    write_image(tmp_path / "truth" / "a" / "0.png", 54, 98)
    write_image(tmp_path / "small" / "a" / "0.png", 13, 24)
    (source,) = data.read_folders(tmp_path / "truth", 1, tmp_path / "small", multiple=4).sources
    assert source.lr is not None
    assert (source.hr.shape[2:], source.lr.shape[2:]) == ((52, 96), (13, 24))
    (cut,) = data.read_folders(tmp_path / "truth", 1).sources
    assert cut.hr.shape[2:] == (48, 96)


def test_chroma_is_smooth_and_colours_are_those_encoded(tmp_path: Path) -> None:
    """A fast decoder gives every 2x2 block one chroma and darkens: weights would learn to draw that."""
    across = np.linspace(0, 1, 64)
    ramp = np.stack([200 - 120 * across, 90 + 0 * across, 60 + 120 * across], -1).round().astype(np.uint8)
    frames = np.broadcast_to(ramp, (3, 48, 64, 3))
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            container.mux(stream.encode(rgb.reformat(format="yuv420p", dst_colorspace=1, interpolation=exact())))
        container.mux(stream.encode(None))
    found = data.read_video(tmp_path / "a.mp4").astype(float)
    assert np.abs(found - frames.transpose(0, 3, 1, 2))[..., 4:-4].mean() < 1.5
    steps = np.abs(np.diff(found[0, 0] - found[0, 2], axis=-1)).mean(0)[4:-4]
    assert steps[::2].mean() == pytest.approx(steps[1::2].mean(), rel=0.2)


def test_an_empty_set_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_image(tmp_path / "short" / "0.png", 48, 64)
    with pytest.raises(data.DataError, match=r"no usable clip \(short: 1 frames, 7 needed\)"):
        data.read_folders(tmp_path)
    with pytest.raises(data.DataError, match=r"index\.json: not found"):
        data.read_pack(tmp_path)


def test_a_pack_of_videos_and_stills(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(14):
        writer.write(np.full((48, 64, 3), (0, 0, 10 * i), np.uint8))
    writer.release()
    (tmp_path / "b.avi").write_bytes(b"no video")
    writer = cv2.VideoWriter(str(tmp_path / "d.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 16))
    for _ in range(14):
        writer.write(np.zeros((16, 64, 3), np.uint8))
    writer.release()
    entries = [{"file": f"{name}.avi", "src": f"owner/{name}:path.mp4"} for name in "abcd"]
    (tmp_path / "index.json").write_text(json.dumps(entries))
    write_image(tmp_path / "large.png", 330, 400)
    write_image(tmp_path / "small.png", 100, 400)
    stills = [{"file": f"{name}.png", "src": "owner/still:x"} for name in ("large", "small")]
    (tmp_path / "stills.json").write_text(json.dumps(stills))
    reading = data.read_pack(tmp_path)
    (source,) = reading.sources
    assert (source.group, source.hr.shape) == ("owner/a", (14, 3, 48, 64))
    assert abs(int(source.hr[13, 0].mean()) - 130) < 8
    assert source.hr[13, 2].mean() < 8
    assert reading.skipped == {"b.avi": "unreadable video", "c.avi": "no such file", "d.avi": "64x16, 32 needed"}
    still = data.read_stills(tmp_path)
    assert still.sources[0].hr.shape == (1, 3, 328, 400)
    assert list(still.skipped) == ["small.png"]


def test_a_clip_known_to_be_faulty_is_named_with_its_fault(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps([{"file": "v/1007429640_1.mp4", "src": "owner/a:b"}]))
    with pytest.raises(data.DataError, match="a cut between frames 14 and 15"):
        data.read_pack(tmp_path)


def test_the_validation_split_follows_the_source_and_never_moves() -> None:
    kept = [name for name in (f"owner{i}/repo{i}" for i in range(400)) if data.is_validation(name)]
    assert 20 < len(kept) < 60
    assert kept[:2] == ["owner2/repo2", "owner24/repo24"]
