from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from vs_rafrvsr.training import losses
from vs_rafrvsr.training.losses import Clip
from vs_rafrvsr.training.recipe import RecipeError


def clip_of(
    output: Tensor,
    truth: Tensor | None = None,
    lr: Tensor | None = None,
    flow: Tensor | None = None,
    known: Tensor | None = None,
) -> Clip:
    batch, frames, _, height, width = output.shape
    small = torch.zeros(batch, frames, 3, height // 4, width // 4)
    return Clip(
        output,
        torch.zeros_like(output) if truth is None else truth,
        small if lr is None else lr,
        small[:, :, :2] if flow is None else flow,
        torch.full_like(small[:, :, :2], torch.nan) if known is None else known,
    )


def test_pixel_losses_of_a_known_difference() -> None:
    output = torch.zeros(1, 2, 3, 4, 4)
    output[0, 1] = 0.3
    output[0, 1, 0, 0, 0] = 0.7  # one of 48 values
    clip = clip_of(output)
    assert losses.mse(clip).tolist() == pytest.approx([0, (47 * 0.09 + 0.49) / 48])
    expected = [1e-3, (47 * math.hypot(0.3, 1e-3) + math.hypot(0.7, 1e-3)) / 48]
    assert losses.charbonnier(clip).tolist() == pytest.approx(expected)


def test_total_variation_of_a_plane_is_the_length_of_its_gradient() -> None:
    ys, xs = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    output = (0.3 * xs + 0.4 * ys).expand(1, 1, 3, 4, 4)
    assert losses.total_variation(clip_of(output)).tolist() == pytest.approx([0.5])


def test_total_variation_of_a_flat_frame_has_a_gradient() -> None:
    output = torch.zeros(1, 1, 3, 4, 4, requires_grad=True)
    losses.total_variation(clip_of(output)).sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()


def test_known_flow_teaches_where_it_is_known_and_frame_0_has_none() -> None:
    flow = torch.zeros(2, 3, 2, 4, 4, requires_grad=True)
    known = torch.full((2, 3, 2, 4, 4), torch.nan)
    known[1] = torch.tensor([0.5, -1.5])[:, None, None]
    loss = losses.flow_known(clip_of(torch.zeros(2, 3, 3, 16, 16), flow=flow, known=known))
    assert loss.tolist() == pytest.approx([0, 0.5, 0.5])  # half of the batch is 1 off in the mean
    loss.sum().backward()
    assert flow.grad is not None
    assert [bool(g.any()) for g in (flow.grad[0], flow.grad[1, 0], flow.grad[1, 1], flow.grad[1, 2])] == [0, 0, 1, 1]
    assert flow.grad.isfinite().all()


def test_flow_losses_vanish_for_the_right_flow_and_count_the_difference_for_none() -> None:
    """A ramp of 0.1 a pixel that moves one LR pixel: without flow every pixel is off by 0.1."""
    ramp = (0.1 * torch.arange(6.0)).expand(3, 4, 6)
    lr = torch.stack([ramp, ramp + 0.1])[None]
    right = torch.zeros(1, 2, 2, 4, 6)
    right[:, 1, 0] = 1
    output = lr.repeat_interleave(4, 3).repeat_interleave(4, 4)
    for loss in (losses.flow_lr, losses.flow_original):
        still = loss(clip_of(output, lr=lr))
        assert still.tolist() == pytest.approx([0, 0.01])
        # The last column has nothing to fetch: it repeats the border, off by 0.1.
        assert loss(clip_of(output, lr=lr, flow=right)).tolist() == pytest.approx([0, 0.01 / 6], abs=1e-6)


def test_the_original_flow_loss_judges_the_output_and_frvsr_s_the_lr_frame() -> None:
    clip = clip_of(torch.full((1, 2, 3, 16, 16), 0.2))
    assert losses.flow_original(clip).tolist() == pytest.approx([0, 0.04])
    assert losses.flow_lr(clip).tolist() == [0, 0]


def checkerboard(side: int) -> Tensor:
    """(1, 1, 3, side, side) of 1 and -1 in turn, of which eight ninths are detail: nine pixels have a ninth as mean."""
    return (1 - 2 * (torch.arange(side)[:, None] + torch.arange(side)).remainder(2)).float().expand(1, 1, 3, -1, -1)


def noise(side: int, seed: int) -> Tensor:
    """(1, 1, 3, side, side), grey, of standard deviation 1."""
    return torch.randn(1, 1, 1, side, side, generator=torch.Generator().manual_seed(seed)).expand(-1, -1, 3, -1, -1)


def test_spectrum_of_a_checkerboard_is_that_of_the_window_around_its_frequency() -> None:
    strength, side = 0.09, losses.SPECTRUM_WINDOW
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(side) / (side - 1))
    wave = torch.fft.fft(hann * (-1) ** torch.arange(side)).abs() / hann.norm()
    expected = 0.08 * wave[:, None] * wave[: side // 2 + 1]
    clip = clip_of(torch.full((1, 1, 3, 256, 256), 0.5), 0.5 + strength * checkerboard(256))
    by_hand = expected.mean() / (expected.square().mean().sqrt() + 0.01)
    assert losses.spectrum(clip).tolist() == pytest.approx([by_hand.item()], rel=0.02)


def test_frames_that_cells_do_not_fill_have_a_lattice_too() -> None:
    truth = 0.5 + 0.09 * checkerboard(100)
    assert losses.lattice(clip_of(truth, truth)).tolist() == pytest.approx([0.08 / 0.084], rel=0.02)


def test_lattice_of_a_checkerboard_and_of_one_that_comes_and_goes() -> None:
    """Signs stay at their places, or strengths do: half of all pixels lack detail, the others have 0.08."""
    board = checkerboard(256)
    truth, half = 0.5 + 0.09 * board, (torch.arange(256) // 4 % 2).float()
    assert losses.lattice(clip_of(truth, truth)).tolist() == pytest.approx([0.08 / 0.084], rel=0.02)
    signs = 1 - 2 * torch.randint(2, (1, 1, 1, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    stripes = board * half * signs.repeat_interleave(8, 3).repeat_interleave(8, 4)
    assert losses.lattice(clip_of(0.5 + 0.09 * stripes, truth)).item() > 0.3


def test_detail_of_the_truth_s_kind_elsewhere_costs_less_than_none_and_far_less_than_a_lattice() -> None:
    truth, other, flat = 0.5 + 0.05 * noise(256, 0), 0.5 + 0.05 * noise(256, 1), torch.full((1, 1, 3, 256, 256), 0.5)
    pattern = flat + 0.05 * noise(8, 2).repeat(1, 1, 1, 32, 32)
    cost = {
        name: (losses.spectrum(clip).item(), losses.lattice(clip).item())
        for name, clip in (
            ("elsewhere", clip_of(other, truth)),
            ("none", clip_of(flat, truth)),
            ("pattern", clip_of(pattern, truth)),
        )
    }
    assert cost["elsewhere"][0] < 0.7 * cost["none"][0]
    assert cost["elsewhere"][0] < 0.7 * cost["pattern"][0]
    assert cost["elsewhere"][1] < 0.3 * cost["pattern"][1]


def test_spectrum_and_lattice_do_not_see_brightness_and_have_gradients_without_detail() -> None:
    truth = 0.5 + 0.05 * noise(96, 0)
    brighter = clip_of(truth + 0.25, truth)
    assert losses.spectrum(brighter).tolist() == pytest.approx([0], abs=1e-3)
    assert losses.lattice(brighter).tolist() == pytest.approx(losses.lattice(clip_of(truth, truth)).tolist(), abs=1e-3)
    for term in (losses.spectrum, losses.lattice):
        output = torch.full((1, 1, 3, 96, 96), 0.5, requires_grad=True)
        term(clip_of(output, truth)).sum().backward()
        assert output.grad is not None
        assert output.grad.isfinite().all()


def test_total_weighs_terms_and_takes_the_mean_of_frames() -> None:
    output = torch.zeros(1, 2, 3, 4, 4)
    output[0, 1] = 1
    terms = {"mse": losses.mse, "total_variation": losses.total_variation}
    parts = losses.total(clip_of(output), terms, {"mse": 2, "total_variation": 1})
    assert parts["mse"].item() == pytest.approx(0.5)
    assert parts["loss"].item() == pytest.approx(1, abs=1e-5)


def test_perceptual_compares_the_layers_asked_for(tmp_path: Path) -> None:
    """Layer 0 of a known network by hand, from a local file."""
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None)
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, tmp_path / "net.safetensors")
    term = losses.Perceptual("squeezenet1_1", layers=("features.0",), weights=tmp_path / "net.safetensors")
    output, truth = torch.rand(2, 1, 2, 3, 32, 32)
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    difference = network.features[0].weight  # the bias and the mean cancel in the difference
    expected = torch.nn.functional.conv2d(((output - truth) / std)[0], difference, stride=2).square().mean((1, 2, 3))
    assert torch.allclose(term(clip_of(output, truth)), expected, rtol=1e-4)


def squeezenet(file: Path) -> Path:
    """Weights of SqueezeNet, all 0 but the centre of the first filter, red to channel 0 of 64, and its bias of 0.5."""
    tensors = {n: torch.zeros_like(t) for n, t in torchvision.models.squeezenet1_1(weights=None).state_dict().items()}
    tensors["features.0.weight"][0, 0, 1, 1] = 1
    tensors["features.0.bias"][0] = 0.5
    torch.save(tensors, file) if file.suffix == ".pth" else save_file(tensors, file)
    return file


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(("features.0",), 9), (("features.1",), 6.25), (("features.0", "features.1"), (9 + 6.25) / 2)],
)
@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_layers_are_averaged_and_each_seen_as_it_left_its_own(
    layers: tuple[str, ...], expected: float, name: str, tmp_path: Path
) -> None:
    """Red at 2 and -1 deviations from ImageNet's mean: 2.5 and -0.5 with the bias, 2.5 and 0 after the ReLU."""
    term = losses.Perceptual("squeezenet1_1", layers, squeezenet(tmp_path / name))
    output, truth = (torch.full((1, 1, 3, 32, 32), 0.485 + 0.229 * at) for at in (2, -1))
    assert term(clip_of(output, truth)).tolist() == pytest.approx([expected / 64], rel=1e-4)


def test_a_network_of_another_build_teaches_from_a_file_of_its_first_layers(tmp_path: Path) -> None:
    """A residual network by its stages; its classifier, its later stages and its counts are not in the file."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    held = {name: t for name, t in network.state_dict().items() if name.startswith(("conv1", "bn1", "layer1"))}
    held = {name: t for name, t in held.items() if not name.endswith("num_batches_tracked")}
    save_file(held, tmp_path / "first.safetensors")
    term = losses.Perceptual("resnet18", ("layer1",), tmp_path / "first.safetensors")
    output, truth = torch.rand(2, 1, 2, 3, 32, 32)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = torch.nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    a, b = (first((x[0] - mean) / std) for x in (output, truth))
    assert torch.allclose(term(clip_of(output, truth)), (a - b).square().mean((1, 2, 3)), rtol=1e-4)


def test_inception_s_own_scale_is_that_of_torchvision_s_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    first = {name: t for name, t in network.state_dict().items() if name.startswith("Conv2d_1a_3x3")}
    save_file(first, tmp_path / "first.safetensors")
    term = losses.Perceptual("inception_v3", ("Conv2d_1a_3x3",), tmp_path / "first.safetensors")
    output, truth = torch.rand(2, 1, 1, 3, 32, 32)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    a, b = (network.Conv2d_1a_3x3(network._transform_input((x[0] - mean) / std)) for x in (output, truth))
    assert torch.allclose(term(clip_of(output, truth)), (a - b).square().mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["alexnet", "AlexNet"])
def test_the_judge_may_not_teach(name: str) -> None:
    with pytest.raises(RecipeError, match=f"'{name}': it judges"):
        losses.Perceptual(name, ("features.0",), None)


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        ("vgg91", ("features.0",), "'vgg91': not a classifier of torchvision; try 'vgg19'"),
        ("fasterrcnn_resnet50_fpn", ("backbone",), "not a classifier"),
        ("squeezenet1_1", ("features.99",), r"layers \('features.99',\): squeezenet1_1 has features\.0 to flatten"),
        ("squeezenet1_1", (), "layers: give at least one"),
        ("squeezenet1_0", ("features.0",), r"not the weights of squeezenet1_0, features\.0\.weight is missing or does"),
        ("resnet18", ("layer1",), r"not the weights of resnet18, conv1\.weight is missing"),
    ],
)
def test_a_network_or_layer_or_file_that_cannot_be_says_what_can(
    network: str, layers: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        losses.Perceptual(network, layers, squeezenet(tmp_path / "net.safetensors"))
