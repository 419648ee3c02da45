import itertools

import torch
from torch import Tensor

from vs_rafrvsr.scenecut import THRESHOLD, decide, scores, thumbnails


def textured(seed: int, height: int = 120, width: int = 160) -> Tensor:
    """A picture (3, height, width) in [0.1, 0.9] with structure at every scale, as photographs have."""
    random = torch.Generator().manual_seed(seed)
    picture = torch.zeros(3, height, width)
    for octave in range(1, 6):
        coarse = torch.rand(1, 3, 2**octave, 2**octave, generator=random) - 0.5
        picture += torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0] / octave
    low, high = picture.amin(), picture.amax()
    return 0.1 + 0.8 * (picture - low) / (high - low)


def score(previous: Tensor, current: Tensor) -> float:
    return scores(thumbnails(previous.unsqueeze(0)), thumbnails(current.unsqueeze(0))).item()


def test_another_picture_is_a_cut_and_the_same_one_is_none() -> None:
    pictures = [textured(seed) for seed in range(8)]
    for previous, current in itertools.product(pictures, pictures):
        assert (score(previous, current) >= THRESHOLD) == (previous is not current)


def test_decide_lets_the_first_known_source_of_the_mode_speak() -> None:
    for prev, following, found in itertools.product((None, 0, 1), (None, 0, 1), (None, 0.2, 0.5, 0.9)):
        detected = found is not None and found >= 0.5
        said = prev if prev is not None else following
        assert decide("off", prev, following, found, 0.5) is False
        assert decide("detect", prev, following, found, 0.5) is detected
        assert decide("props", prev, following, found, 0.5) is bool(said)
        assert decide("auto", prev, following, found, 0.5) is (detected if said is None else bool(said))
