from __future__ import annotations

import numpy as np
import pytest

from vs_rafrvsr.metrics.protocol import PROTOCOLS, EvaluationError
from vs_rafrvsr.training.degrade import KINDS

CLIP = np.arange(7 * 64 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(7, 64, 80, 3)


@pytest.mark.parametrize(
    ("name", "frames", "rows", "columns"),
    [
        ("bi", slice(0, 7), slice(0, 64), slice(0, 80)),
        ("bd", slice(0, 7), slice(8, 56), slice(8, 72)),
        ("bd-whole", slice(0, 7), slice(0, 64), slice(0, 80)),
        ("duf", slice(2, 5), slice(8, 56), slice(8, 72)),
        ("tecogan", slice(2, 5), slice(16, 48), slice(8, 72)),
        ("vimeo-bi", slice(3, 4), slice(0, 64), slice(0, 80)),
        ("vimeo-bd", slice(3, 4), slice(0, 64), slice(0, 80)),
    ],
)
def test_what_counts(name: str, frames: slice, rows: slice, columns: slice) -> None:
    assert np.array_equal(PROTOCOLS[name].count(CLIP), CLIP[frames, rows, columns])


def test_every_protocol_has_its_degradation_and_says_whose_it_is() -> None:
    assert all(p.degradation in KINDS and p.source for p in PROTOCOLS.values())


def test_a_clip_without_a_frame_that_counts_is_refused() -> None:
    with pytest.raises(EvaluationError, match="duf: a clip of 4 frames has none that counts"):
        PROTOCOLS["duf"].count(CLIP[:4])
