"""How many workers Ray's nodes have room for: numbers in, a warning or an error out."""

from __future__ import annotations

import pytest

from vs_rafrvsr.encode.cluster import check_room, gpus_of_worker
from vs_rafrvsr.errors import EncodeError

ONE_GPU = {"CPU": 16.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "said"),
    [
        ([ONE_GPU], 1, 1, ""),
        ([ONE_GPU], 4, 1, "only 1 of 4 workers run at once; use --workers 1, or --gpus-per-worker 0.25"),
        ([ONE_GPU], 4, 0.25, ""),
        ([ONE_GPU], 6, 0.16, ""),
        ([ONE_GPU], 6, 0.5, "only 2 of 6 workers run at once; use --workers 2, or --gpus-per-worker 0.16"),
        ([ONE_GPU, ONE_GPU], 3, 1, "only 2 of 3 workers run at once; use --workers 2, or --gpus-per-worker 0.5"),
        ([{"CPU": 2.0}, {"CPU": 1.0}], 4, 0, "only 3 of 4 workers run at once; use --workers 3"),
        ([{}, ONE_GPU], 16, 0, ""),
        ([{"CPU": 4.0, "GPU": 8.0}], 8, 1, "only 4 of 8 workers run at once; use --workers 4\n"),
    ],
)
def test_workers_that_would_wait_are_said(
    nodes: list[dict[str, float]], workers: int, gpus: float, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_room(nodes, workers, 1, gpus)
    assert bool(caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize(("nodes", "gpus"), [([{}], 0), ([{"CPU": 8.0}, {"GPU": 1.0}], 1)])
def test_no_room_at_all_is_refused(nodes: list[dict[str, float]], gpus: float) -> None:
    with pytest.raises(EncodeError, match=r"a worker takes 1 CPU and . GPU, which no node .* --num-cpus"):
        check_room(nodes, 2, 1, gpus)


def test_a_worker_takes_a_gpu_where_there_is_one() -> None:
    assert gpus_of_worker([{"CPU": 4.0}], None) == 0
    assert gpus_of_worker([{"CPU": 4.0}, {"GPU": 8.0}], None) == 1
    assert gpus_of_worker([ONE_GPU], 0.5) == 0.5
    for wanted in (-1.0, 1.5, 0.5):
        with pytest.raises(EncodeError, match=f"--gpus-per-worker {wanted:g} cannot be had"):
            gpus_of_worker([ONE_GPU if wanted != 0.5 else {"CPU": 4.0}], wanted)
