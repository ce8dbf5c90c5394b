"""On complex inputs, thresholds act on the modulus and keep the phase."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import sparsact as sa
import sparsact.functional as SF
from cases import THRESHOLDS, by_name

DTYPES = [torch.complex128, torch.complex64]
SIGNED = {"jumprelu", "sigmoid_gate"}
CASES = [case for case in THRESHOLDS if case.name not in SIGNED]
GROUPED = ["group_softshrink", "sparse_group_softshrink"]


def complex_normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def pairs(z: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(z)


def test_softshrink_of_the_textbook_number():
    z = torch.tensor([3 + 4j])
    torch.testing.assert_close(SF.softshrink(z, 1.0), torch.tensor([2.4 + 3.2j]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=by_name)
class TestEveryThreshold:
    def test_modulus_by_the_published_formula(self, case, dtype):
        z = complex_normal(1000).to(dtype)
        size = z.abs().double()
        unit = z.to(torch.complex128) / size
        expected = unit * torch.where(size <= 0, 0.0, case.reference(size, 0.6))
        if case.dead is not None:
            expected = torch.where(case.dead(size, 0.6), 0.0, expected)
        result = case(z, 0.6)
        assert result.dtype == dtype
        torch.testing.assert_close(result, expected.to(dtype))

    def test_real_numbers_give_the_real_function(self, case, dtype):
        x = torch.randn(100).to(z_dtype(dtype))
        result = case(x.to(dtype), 0.6)
        assert not result.imag.any()
        torch.testing.assert_close(result.real, case(x, 0.6))

    def test_a_rotation_of_the_input_rotates_the_output(self, case, dtype):
        z = complex_normal(100).to(dtype)
        turn = torch.polar(torch.ones(()).double(), torch.tensor(0.7).double()).to(dtype)
        torch.testing.assert_close(case(z * turn, 0.6), case(z, 0.6) * turn)

    def test_kinks(self, case, dtype):
        # right triangles whose sides are integers have an exact modulus
        z = torch.tensor([0, -0.0, 3 + 4j, -3 + 4j, 0.6 - 0.8j, 1e-30j, 5, -5j], dtype=dtype) / 4
        z.requires_grad_()
        result = case(z, 1.25)
        if case.dead is not None:
            assert not result.any()
        (grad,) = torch.autograd.grad(result.abs().square().sum(), z)
        assert grad.isfinite().all()
        assert grad[0] == 0

    @pytest.mark.parametrize("lambd", [0.0, 0.3])
    def test_zero_has_a_finite_gradient(self, case, dtype, lambd):
        z = torch.zeros(3, dtype=dtype, requires_grad=True)
        level = torch.tensor(lambd, requires_grad=True)
        result = case(z, level)
        grads = torch.autograd.grad(result, [z, level], torch.ones_like(z))
        assert not result.any()
        assert all(grad.isfinite().all() for grad in grads)
        if case.dead is not None:
            assert not grads[0].any()

    def test_nan_and_inf(self, case, dtype):
        inf, nan = torch.inf, torch.nan
        z = torch.tensor([complex(nan, 1), complex(1, nan), complex(inf, nan)], dtype=dtype)
        assert case(z, 0.3).isnan().all()
        z = torch.tensor([complex(inf, 0), complex(0, -inf), complex(inf, 1)], dtype=dtype)
        result = case(z, 0.3)
        assert torch.equal(result, z if case.keeps_inf else torch.tensor([1, -1j, 1]).to(z) * 0.3)

    def test_tiny_numbers_keep_the_gradient_finite(self, case, dtype):
        tiny = torch.finfo(dtype).tiny
        z = torch.tensor([tiny, tiny / 8, tiny * 1j], dtype=dtype, requires_grad=True)
        (grad,) = torch.autograd.grad(case(z, 0.0), z, torch.ones_like(z))
        assert grad.isfinite().all()

    def test_mask(self, case, dtype):
        z, mask = complex_normal(64).to(dtype), torch.rand(64) < 0.5
        assert torch.equal(case(z, 0.6, mask=mask), torch.where(mask, case(z, 0.6), z))
        zeroed = case(z, 0.6, mask=mask, zero_other=True)
        assert torch.equal(zeroed, torch.where(mask, case(z, 0.6), 0))

    def test_a_view_and_an_empty_tensor(self, case, dtype):
        z = complex_normal(6, 8).to(dtype)
        torch.testing.assert_close(case(z.t(), 0.6), case(z, 0.6).t())
        torch.testing.assert_close(case(z[:, ::2], 0.6), case(z, 0.6)[:, ::2])
        torch.testing.assert_close(case(z.conj(), 0.6), case(z, 0.6).conj())
        assert case(z[:0], 0.6).shape == (0, 8)


def z_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.complex128 else torch.float32


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_gradients(case):
    z = torch.polar(torch.tensor([0.2, 0.45, 0.9, 1.25, 1.4, 2.6]), torch.rand(6) * 6)
    z = z.to(torch.complex128).requires_grad_()
    lambd = torch.full((6,), 0.6).double()
    if not case.straight_through:
        lambd.requires_grad_()
    assert torch.autograd.gradcheck(lambda z, t: case(z, t), (z, lambd))


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_learned_threshold_has_the_gradient_of_the_real_function(case):
    z = torch.polar(torch.rand(50) * 2, torch.rand(50) * 6)
    lambd = torch.tensor(0.6, requires_grad=True)
    unit = z / z.abs()
    grad = torch.randn(50)
    (result,) = torch.autograd.grad(case(z, lambd), lambd, grad * unit)
    (expected,) = torch.autograd.grad(case(z.abs(), lambd), lambd, grad)
    torch.testing.assert_close(result, expected)


def test_softshrink_is_group_softshrink_of_the_parts():
    z = complex_normal(5, 40).requires_grad_()
    lambd = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    grad = complex_normal(5, 40)
    result = SF.softshrink(z, lambd)
    expected = torch.view_as_complex(SF.group_softshrink(pairs(z), lambd, dim=-1))
    torch.testing.assert_close(result, expected)
    for one, other in zip(
        torch.autograd.grad(result, [z, lambd], grad),
        torch.autograd.grad(expected, [z, lambd], grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


class TestGroups:
    @pytest.mark.parametrize("dims", [-1, 0, (0, 2)])
    def test_groups_are_those_of_the_parts(self, dims):
        z = complex_normal(3, 4, 5).requires_grad_()
        z.data[0, 0, 0] = 0  # a zero inside a group that survives
        part_dims = (dims,) if isinstance(dims, int) else dims
        part_dims = (*[d % 3 for d in part_dims], 3)
        lambd = torch.tensor(1.9, dtype=torch.float64, requires_grad=True)
        result = SF.group_softshrink(z, lambd, dim=dims)
        expected = torch.view_as_complex(SF.group_softshrink(pairs(z), lambd, dim=part_dims))
        assert (result == 0).any() == (expected == 0).any()
        torch.testing.assert_close(result, expected)
        grad = complex_normal(3, 4, 5)
        for one, other in zip(
            torch.autograd.grad(result, [z, lambd], grad),
            torch.autograd.grad(expected, [z, lambd], grad),
            strict=True,
        ):
            torch.testing.assert_close(one, other)

    def test_blocks_with_a_threshold_each(self):
        z = complex_normal(3, 8)
        lambd = torch.rand(4).double() * 3
        result = SF.group_softshrink(z, lambd, group_size=2)
        parts = pairs(z).reshape(3, 16)
        expected = SF.group_softshrink(parts, lambd, group_size=4).reshape(3, 8, 2)
        torch.testing.assert_close(result, torch.view_as_complex(expected))

    def test_sparse_groups_shrink_the_moduli_first(self):
        z = complex_normal(3, 8)
        result = SF.sparse_group_softshrink(z, 0.4, 0.9, group_size=4)
        expected = SF.group_softshrink(SF.softshrink(z, 0.4), 0.9, group_size=4)
        torch.testing.assert_close(result, expected)

    @pytest.mark.parametrize("name", GROUPED)
    def test_gradients(self, name):
        function = getattr(SF, name)
        z = (complex_normal(3, 4) + 2).requires_grad_()
        lambd = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        assert (
            torch.autograd.gradcheck(lambda z, t: function(z, t, t * 1.0), (z, lambd))
            if (name == "sparse_group_softshrink")
            else torch.autograd.gradcheck(function, (z, lambd))
        )

    @pytest.mark.parametrize("name", GROUPED)
    def test_zero_groups_and_masks(self, name):
        function = getattr(SF, name)
        z = torch.zeros(2, 4, dtype=torch.complex64, requires_grad=True)
        result = function(z, 0.5)
        (grad,) = torch.autograd.grad(result, z, torch.ones_like(z))
        assert not result.any()
        assert not grad.any()
        z, mask = complex_normal(2, 4), torch.tensor([True, False, True, True])
        result = function(z, 0.5, mask=mask)
        assert torch.equal(result[:, 1], z[:, 1])
        torch.testing.assert_close(result[:, mask], function(z[:, mask], 0.5))


class TestSelection:
    def test_topk_keeps_the_largest_moduli(self):
        z = complex_normal(6, 9)
        result = SF.topk(z, 3, by="magnitude")
        order = np.argsort(np.abs(z.numpy()), axis=1)[:, -3:]
        expected = np.zeros_like(z.numpy())
        np.put_along_axis(expected, order, np.take_along_axis(z.numpy(), order, 1), 1)
        assert np.array_equal(result.numpy(), expected)

    def test_batch_topk_keeps_the_largest_moduli(self):
        z = complex_normal(6, 9)
        result = SF.batch_topk(z, 2, by="magnitude")
        level = z.abs().flatten().sort().values[-12]
        assert torch.equal(result, torch.where(z.abs() >= level, z, 0))

    def test_the_level_of_batch_topk_in_eval_mode(self):
        layer, z = sa.nn.BatchTopK(2, by="magnitude"), complex_normal(6, 9).to(torch.complex64)
        kept = layer(z)
        level = float(layer.running_threshold)
        assert level == pytest.approx(float(kept.abs()[kept != 0].min()))
        assert torch.equal(layer.eval()(z), SF.hardshrink(z, level))

    @pytest.mark.parametrize("name", ["topk", "batch_topk"])
    def test_gradient_and_order(self, name):
        z = complex_normal(3, 4).requires_grad_()
        select = getattr(SF, name)
        assert torch.autograd.gradcheck(lambda z: select(z, 2, by="magnitude"), z)
        with pytest.raises(ValueError, match="complex numbers have no order: use 'magnitude'"):
            select(z, 2)


class TestRefusals:
    @pytest.mark.parametrize("case", [case for case in CASES if case.takes_sides], ids=by_name)
    @pytest.mark.parametrize("sides", ["positive", "negative"])
    def test_sides(self, case, sides):
        with pytest.raises(ValueError, match="selects a sign, but complex numbers have none"):
            case(complex_normal(3), 0.3, sides=sides)

    @pytest.mark.parametrize("name", ["jumprelu", "softplus", "sigmoid_gate"])
    def test_functions_of_the_sign(self, name):
        with pytest.raises(TypeError, match=f"{name} takes no .*complex numbers have no sign"):
            getattr(SF, name)(complex_normal(3))

    @pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
    @pytest.mark.parametrize("case", CASES, ids=by_name)
    def test_complex32(self, case):
        with pytest.raises(TypeError, match="complex32 is not supported; convert it with"):
            case(torch.zeros(3, dtype=torch.complex32), 0.3)

    def test_a_box_and_a_complex_threshold(self):
        with pytest.raises(ValueError, match="pass lambd=, not lo= or hi="):
            SF.clip(complex_normal(3), lo=0.0)
        with pytest.raises(TypeError, match="lambd= must be a floating-point tensor"):
            SF.softshrink(complex_normal(3), torch.tensor(1j))

    @pytest.mark.parametrize(
        "layer", [sa.nn.JumpReLU(), sa.nn.SigmoidGate(), sa.nn.Softshrink(sides="positive")]
    )
    def test_init_from(self, layer):
        with pytest.raises((TypeError, ValueError), match="complex numbers have no"):
            layer.init_from(complex_normal(30))


class TestModules:
    KINDS = (
        sa.nn.Softshrink,
        sa.nn.Hardshrink,
        sa.nn.Firmshrink,
        sa.nn.SCAD,
        sa.nn.Garrote,
        sa.nn.Halfshrink,
        sa.nn.GroupSoftshrink,
        sa.nn.SparseGroupSoftshrink,
    )

    @pytest.mark.parametrize("kind", KINDS)
    def test_init_from_moduli(self, kind):
        z = complex_normal(40, 25)
        layer = kind().init_from(z, sparsity=0.6)
        share = (layer(z) == 0).double().mean()
        assert float(share) == pytest.approx(0.6, abs=0.02)
        torch.testing.assert_close(layer.lambd, kind().init_from(z.abs(), sparsity=0.6).lambd)

    @pytest.mark.parametrize("kind", [*KINDS, sa.nn.Clip])
    def test_thresholds_per_channel_are_learned(self, kind):
        if kind is sa.nn.GroupSoftshrink:
            layer = kind(0.3, True, num_parameters=5, channel_dim=0)
        else:
            layer = kind(0.3, True, num_parameters=5, channel_dim=0)
        z = complex_normal(5, 30).to(torch.complex64) * 0.4
        layer(z).abs().sum().backward()
        assert layer.lambd.grad.isfinite().all()
        assert layer.lambd.grad.any()
        assert torch.equal(copy.deepcopy(layer)(z), layer(z))

    def test_vmap_and_compile(self):
        z = complex_normal(4, 6).to(torch.complex64)
        torch.testing.assert_close(
            torch.func.vmap(SF.softshrink)(z), SF.softshrink(z), rtol=0, atol=0
        )
        layer = nn.Sequential(sa.nn.Softshrink(0.3), sa.nn.Hardshrink(0.5))
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(z), layer(z))
