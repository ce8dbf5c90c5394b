"""On complex inputs, penalties sum functions of the moduli."""

import pytest
import torch
from torch import Tensor, nn

import sparsact as sa
from cases import PENALTIES, PenaltyCase, by_name

CASES = [case for case in PENALTIES if case.name not in ("KLSparsity", "TotalVariation")]
PROXIMAL = [case for case in CASES if case.proximal]
DTYPES = [torch.complex128, torch.complex64]
STEP = 0.6
REFUSE_PARTS = (
    "SparseGroupLasso",
    "L0",
    "LogSum",
    "SmoothL1",
    "LHalf",
    "MCP",
    "SCAD",
    "OSCAR",
    "SLOPE",
    "OverlappingGroupLasso",
)


def complex_normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def cost(case: PenaltyCase, u: Tensor, z: Tensor, metric: Tensor) -> Tensor:
    """``Σ ½(u − z)²/step + penalty(u)`` over (re, im), for each row of `u`."""
    distance = (torch.view_as_real(u - z).square() / metric).flatten(1).sum(1) / 2
    size = u.abs() * (1 - 1e-12)  # a modulus clamped to the θ of L0 may round to above it
    return distance + case.terms(size).reshape(len(u), -1).sum(1)


def nearby(u: Tensor) -> Tensor:
    """Many points around `u`, near and far, and 0."""
    scales = torch.logspace(-4, 0.5, 400, dtype=torch.float64).repeat_interleave(50)[:, None]
    moves = torch.randn(len(scales), u.shape[1], dtype=torch.complex128) * scales
    single = moves * (torch.rand(moves.shape) < 0.5)
    zeroed = u * (torch.rand(2000, u.shape[1]) < 0.5)
    return torch.cat([u + moves, u + single, u * (1 + scales * 0.1), zeroed, torch.zeros_like(u)])


@pytest.mark.parametrize("case", CASES, ids=by_name)
class TestValue:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_published_formula_on_moduli(self, case, dtype):
        z = complex_normal(6, 8).to(dtype)
        value = case.penalty(z)
        assert value.dtype == (torch.float64 if dtype == torch.complex128 else torch.float32)
        torch.testing.assert_close(
            value.double(), case.terms(z.abs().double()).sum(), rtol=1e-5, atol=1e-6
        )

    def test_gradient(self, case):
        z = complex_normal(3, 4) * 2
        z[0, 0] = 0
        z.requires_grad_()
        (grad,) = torch.autograd.grad(case.penalty(z), z)
        assert grad.isfinite().all()
        assert grad[0, 0] == 0
        if case.exact:
            away = torch.where(z.detach() == 0, 1, z.detach()).requires_grad_()
            assert torch.autograd.gradcheck(case.penalty, away)

    def test_zeros(self, case):
        z = torch.zeros(3, 4, dtype=torch.complex64, requires_grad=True)
        (grad,) = torch.autograd.grad(case.penalty(z), z)
        assert not grad.any()

    def test_padding(self, case):
        z, mask = complex_normal(4, 5, 6), torch.rand(4, 5) < 0.5
        kept = z[mask] if case.penalty.zero_is_free is False else torch.where(mask[..., None], z, 0)
        torch.testing.assert_close(case.penalty.masked(z, mask), case.penalty(kept))


@pytest.mark.parametrize("case", PROXIMAL, ids=by_name)
class TestProx:
    def test_beats_every_point_nearby(self, case):
        for _ in range(20):
            z = complex_normal(1, case.block) * 1.5
            u = case.penalty.prox(z, STEP)
            metric = torch.full((1, case.block, 2), STEP).double()
            best = cost(case, u, z, metric)
            assert (cost(case, nearby(u), z, metric) >= best - 1e-9).all()

    def test_keeps_the_phase_and_the_dtype(self, case):
        z = complex_normal(3, 4).to(torch.complex64)
        u = case.penalty.prox(z, STEP)
        assert u.dtype == z.dtype
        turned = case.penalty.prox(z * 1j, STEP)
        torch.testing.assert_close(turned, u * 1j)

    def test_step_per_entry(self, case):
        step = torch.rand(1, case.block, dtype=torch.float64) + 0.2
        if not case.entry_steps:
            with pytest.raises(ValueError, match="when each entry has its own step size"):
                case.penalty.prox(complex_normal(1, case.block), step)
            return
        for _ in range(20):
            z = complex_normal(1, case.block) * 1.5
            u = case.penalty.prox(z, step)
            metric = step[..., None].expand(1, case.block, 2)
            assert (cost(case, nearby(u), z, metric) >= cost(case, u, z, metric) - 1e-9).all()

    def test_step_per_real_and_imaginary_part(self, case):
        step = torch.rand(1, case.block, 2, dtype=torch.float64) + 0.2
        if case.name in REFUSE_PARTS:
            with pytest.raises(ValueError, match=f"{case.name} has no prox in closed form for"):
                case.penalty.prox(complex_normal(1, case.block), torch.view_as_complex(step))
            return
        for _ in range(20):
            z = complex_normal(1, case.block) * 1.5
            u = case.penalty.prox(z, torch.view_as_complex(step))
            assert (cost(case, nearby(u), z, step) >= cost(case, u, z, step) - 1e-9).all()


def test_a_sign_is_refused():
    z = complex_normal(3, 4)
    with pytest.raises(TypeError, match=r"KLSparsity takes no .*complex numbers have no sign"):
        sa.KLSparsity(1.0)(z)
    with pytest.raises(ValueError, match="selects a sign, but complex numbers have none"):
        sa.L0(1.0, threshold=sa.nn.JumpReLU(0.3))(z)
    with pytest.raises(ValueError, match="selects a sign, but complex numbers have none"):
        sa.L0(1.0, sides="positive").prox(z, 1.0)


class Spectrum(nn.Module):
    """A Fourier layer: complex weights on the spectrum of a real signal."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(complex_normal(5).to(torch.complex64))
        self.act = sa.nn.Softshrink(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(self.act(torch.fft.rfft(x) * self.weight), n=8)


class TestModel:
    @pytest.mark.parametrize("mode", ["loss", "inject"])
    def test_activation_penalty(self, mode):
        model, x = Spectrum(), torch.randn(6, 8)
        penalty = sa.ActivationPenalty(model, {"act": sa.L1(0.3)}, mode=mode)
        loss = model(x).square().mean()
        if mode == "loss":
            loss = loss + penalty()
        loss.backward()
        grad = model.weight.grad.clone()
        penalty.remove()
        model.zero_grad()
        spectrum = model.act(torch.fft.rfft(x) * model.weight)
        (model(x).square().mean() + 0.3 * spectrum.abs().sum() / 6).backward()
        torch.testing.assert_close(grad, model.weight.grad)

    def test_weight_penalty(self):
        model = Spectrum()
        value = sa.WeightPenalty(model, {"weight": sa.L1(0.3)})()
        torch.testing.assert_close(value, 0.3 * model.weight.abs().sum())

    def test_meter(self):
        model, x = Spectrum(), torch.randn(60, 8)
        with sa.SparsityMeter(model, "act") as meter:
            model(x)
        stats = meter.compute()["act"]
        spectrum = model.act(torch.fft.rfft(x) * model.weight).detach()
        assert stats.density == pytest.approx(float((spectrum != 0).double().mean()))
        assert stats.density < 1
        assert stats.mean_magnitude == pytest.approx(float(spectrum.abs().mean()))
        assert sum(stats.histogram.counts) == int((spectrum != 0).sum())
        assert stats.histogram.edges[-1] >= float(spectrum.abs().max())
