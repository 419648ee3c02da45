from __future__ import annotations

import pytest

from tests.training.fabricated import clip
from vs_rafrvsr.training.prepare import Prepared


@pytest.fixture
def prepared() -> Prepared:
    return Prepared(
        [clip("a", 6, 64, 80), clip("b", 7, 80, 64, seed=1)],
        [clip("held", 10, 48, 64, seed=2), clip("held2", 10, 48, 64, seed=3), clip("other", 9, 64, 48, seed=4)],
        [clip("still", 9, 48, 48, seed=5, camera=True)],
    )
