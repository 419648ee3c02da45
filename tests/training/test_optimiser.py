from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vs_rafrvsr.training.optimiser import Group, Muon, Optimiser, orthogonalise


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


def make(net: nn.Module, *, ema: float = 0.9, clip: float = 1e9, scaled: bool = False) -> Optimiser:
    return Optimiser([Group(list(net.parameters()), 1.0)], betas=(0.9, 0.99), clip=clip, ema=ema, scaled=scaled)


def loss_of(net: nn.Module, seed: int) -> torch.Tensor:
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    out: torch.Tensor = net(x)
    return (out - 1).square().mean()


def test_equals_torch_s_adam() -> None:
    ours, theirs = small_net(), small_net()
    optimiser, adam = make(ours), torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for seed in range(20):
        optimiser.backward(loss_of(ours, seed))
        optimiser.step(torch.tensor(1e-2))
        adam.zero_grad()
        loss_of(theirs, seed).backward()
        adam.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_clipping_bounds_the_gradient_as_torch_does() -> None:
    """One step of Adam hides the gradient's size, so look at the first moment."""
    net = small_net()
    optimiser = make(net, clip=0.01)
    optimiser.backward(loss_of(net, 0))
    optimiser.step(torch.tensor(0.0))
    assert (optimiser.first.norm() / 0.1).item() == pytest.approx(0.01, rel=1e-3)


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted() -> None:
    net = small_net()
    optimiser = make(net)
    optimiser.backward(loss_of(net, 0))
    optimiser.step(torch.tensor(1e-2))
    before = {name: t.clone() for name, t in optimiser.state().items()}
    optimiser.backward(loss_of(net, 1) * torch.nan)
    optimiser.step(torch.tensor(1e-2))
    after = optimiser.state()
    assert after.pop("skipped") == before.pop("skipped") + 1
    assert all(torch.equal(after[name], before[name]) for name in before)
    optimiser.backward(loss_of(net, 2))
    optimiser.step(torch.tensor(1e-2))
    assert optimiser.weights.isfinite().all()
    assert not torch.equal(optimiser.weights, before["weights"])


def test_a_bad_very_first_step_leaves_no_trace() -> None:
    net = small_net()
    optimiser = make(net)
    optimiser.backward(loss_of(net, 1) * torch.inf)
    optimiser.step(torch.tensor(1e-2))
    assert optimiser.weights.isfinite().all()
    assert optimiser.average.isfinite().all()


def test_the_loss_scale_falls_after_an_overflow_and_does_not_change_the_update() -> None:
    plain, scaled = small_net(), small_net()
    a, b = make(plain), make(scaled, scaled=True)
    for optimiser, net in ((a, plain), (b, scaled)):
        optimiser.backward(loss_of(net, 0))
        optimiser.step(torch.tensor(1e-2))
    assert torch.allclose(a.weights, b.weights, atol=1e-6)
    scale = b.scale.item()
    b.backward(loss_of(scaled, 1) * torch.inf)
    b.step(torch.tensor(1e-2))
    assert b.scale.item() == scale / 2


def test_the_average_trails_the_weights_and_can_be_looked_at() -> None:
    net = small_net()
    optimiser = make(net, ema=0.75)
    start = optimiser.weights.clone()
    optimiser.backward(loss_of(net, 0))
    optimiser.step(torch.tensor(1e-2))
    moved = optimiser.weights.clone()
    with optimiser.averaged():
        assert torch.allclose(optimiser.weights, 0.75 * start + 0.25 * moved)
        assert next(net.parameters()).data_ptr() == optimiser.weights.data_ptr()
    assert torch.equal(optimiser.weights, moved)


def test_groups_have_their_own_rates() -> None:
    net = small_net()
    a, a_bias, b, b_bias = net.parameters()
    groups = [Group([a, a_bias], 1.0), Group([b, b_bias], 0.1)]
    optimiser = Optimiser(groups, betas=(0.9, 0.99), clip=1e9, ema=0.9)
    before = optimiser.weights.clone()
    optimiser.backward(loss_of(net, 0))
    optimiser.step(torch.tensor(1e-2))
    first = a.numel() + a_bias.numel()
    moved = (optimiser.weights - before).abs()
    # Adam's first step is the rate itself wherever there is a gradient.
    assert moved[:first].max().item() == pytest.approx(1e-2, rel=1e-3)
    assert moved[first:].max().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 8, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    # A square matrix's smallest value starts near 0, and five steps cannot bring it up.
    assert values.min() > (0.6 if shape[1] != shape[2] else 0)
    assert values.max() < 1.3


def muon_of(net: nn.Module, **changes: Any) -> Optimiser:  # noqa: ANN401  (Muon's fields)
    weights = [p for p in net.parameters() if p.dim() == 4]
    groups = [Group(list(net.parameters()), 1.0)]
    return Optimiser(groups, betas=(0.9, 0.99), clip=1e9, ema=0.9, muon=Muon(weights, **changes))


def matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().permute(0, 2, 3, 1).flatten(1).clone()


def test_muon_moves_every_matrix_by_orthogonal_steps_and_leaves_the_rest_to_adam() -> None:
    """Two shapes, 4 x 18 and 4 x 36, biases between them."""
    net, plain = small_net(), small_net()
    optimiser, adam = muon_of(net, rate=2.0), make(plain)
    before = [p.detach().clone() for p in net.parameters()]
    for o, n in ((optimiser, net), (adam, plain)):
        o.backward(loss_of(n, 0))
        o.step(torch.tensor(1e-2))
    a, a_bias, b, b_bias = net.parameters()
    for weight, old in ((a, before[0]), (b, before[2])):
        step = (matrix(weight) - matrix(old)) / (2e-2 * 0.2 * weight[0].numel() ** 0.5)
        values = torch.linalg.svdvals(step)
        assert values.min() > 0.5
        assert values.max() < 1.3
    assert torch.allclose(a_bias, list(plain.parameters())[1])
    assert torch.allclose(b_bias, list(plain.parameters())[3])


def test_the_second_moment_is_adam_s_alone() -> None:
    net = small_net()
    optimiser = muon_of(net)
    assert optimiser.state()["second"].numel() == sum(p.numel() for p in net.parameters() if p.dim() == 1)
    optimiser.backward(loss_of(net, 0))
    optimiser.step(torch.tensor(1e-2))
    assert (optimiser.second > 0).all()


def test_a_bad_step_leaves_muon_s_state_alone() -> None:
    net = small_net()
    optimiser = muon_of(net)
    for bad in (1.0, torch.nan, 1.0):
        before = {name: t.clone() for name, t in optimiser.state().items()}
        optimiser.backward(loss_of(net, 0) * bad)
        optimiser.step(torch.tensor(1e-2))
        same = all(torch.equal(t, before[name]) for name, t in optimiser.state().items() if name != "skipped")
        assert same == (bad != 1.0)
    assert optimiser.weights.isfinite().all()
