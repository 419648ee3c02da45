"""Checkpoints of several files: whole at any moment, never a mixture."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from vs_rafrvsr.training import checkpoint

CPU = torch.device("cpu")


def test_a_checkpoint_is_split_and_a_mixture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 100)
    tensors = {name: torch.full((20,), value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    stem = tmp_path / "deep" / "checkpoint"
    assert not checkpoint.exists(stem)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint at"):
        checkpoint.load(stem)
    first = checkpoint.save(stem, tensors, {"step": 1})
    assert len(first) == 3
    assert checkpoint.exists(stem)
    found, record = checkpoint.load(stem)
    assert record == {"step": 1}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    old = first[2].read_bytes()
    second = checkpoint.save(stem, tensors, {"step": 2})
    assert sorted(stem.parent.iterdir()) == sorted(second)  # nothing of the old one is left
    second[2].write_bytes(old)
    with pytest.raises(checkpoint.CheckpointError, match=r"2\.safetensors belongs to another step"):
        checkpoint.load(stem)
    second[2].unlink()
    with pytest.raises(checkpoint.CheckpointError, match=r"2\.safetensors is missing"):
        checkpoint.load(stem)


@pytest.mark.parametrize("action", ["replace", "unlink"])
def test_a_stop_at_any_moment_leaves_one_checkpoint_whole(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same step twice too: a run that is tried anew comes to it again."""
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 100)
    stem, kept = tmp_path / "checkpoint", list[float]()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"the weights of a recipe of this name")

    def save(value: float) -> None:
        tensors = {name: torch.full((20,), value) for name in "abc"}
        checkpoint.save(stem, tensors, {"step": 1, "seconds": value})

    save(0.0)
    true = getattr(Path, action)
    for stop in range(4):
        done = list[Path]()

        def stopping(path: Path, *rest: Path) -> None:
            if len(done) == stop:  # noqa: B023  (called in this round alone)
                raise KeyboardInterrupt
            done.append(path)  # noqa: B023
            true(path, *rest)

        monkeypatch.setattr(Path, action, stopping)
        with contextlib.suppress(KeyboardInterrupt):
            save(stop + 1.0)
        monkeypatch.setattr(Path, action, true)
        tensors, record = checkpoint.load(stem)
        assert record["seconds"] in (stop, stop + 1.0)
        assert all(torch.equal(tensors[name], torch.full((20,), record["seconds"])) for name in "abc")
        kept.append(record["seconds"])
        save(stop + 1.0)
        assert len(list(tmp_path.iterdir())) == 4
    assert kept == ([0, 1, 2, 4] if action == "replace" else [1, 2, 3, 4])
