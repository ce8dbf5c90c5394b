"""Setting λ from data: the given share of the sample becomes zero."""

import math

import pytest
import torch
from torch import Tensor

import sparsact as sa

ENTRYWISE = [
    sa.nn.Softshrink,
    sa.nn.Hardshrink,
    sa.nn.Firmshrink,
    sa.nn.SCAD,
    sa.nn.Garrote,
    sa.nn.Halfshrink,
]
entrywise = pytest.mark.parametrize("cls", ENTRYWISE)
learned = pytest.mark.parametrize("learnable", [False, True])
SCALE = torch.tensor([0.1, 1.0, 2.0, 50.0])
SAMPLE = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)) * SCALE


def zeros(x: Tensor, dim: int | None = None) -> Tensor:
    return (x == 0).double().mean(dim)


@entrywise
@learned
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.999])
def test_share_of_zeros(cls, learnable, sparsity):
    module = cls(learnable=learnable)
    assert module.init_from(SAMPLE, sparsity) is module
    assert float(zeros(module(SAMPLE))) == pytest.approx(sparsity, abs=1e-9)


@entrywise
@learned
def test_share_of_zeros_in_every_channel(cls, learnable):
    for dim, sample in [(-1, SAMPLE), (1, SAMPLE.reshape(20, 25, 4).transpose(1, 2))]:
        module = cls(learnable=learnable, num_parameters=4, channel_dim=dim)
        result = module.init_from(sample, 0.6)(sample)
        share = zeros(result.movedim(dim, -1).reshape(-1, 4), 0)
        torch.testing.assert_close(share, torch.full((4,), 0.6, dtype=torch.float64))
        assert module.lambd[3] > 100 * module.lambd[0]
        assert isinstance(module.lambd, torch.nn.Parameter) == learnable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_band_closes_on_a_value_of_the_sample(dtype):
    sample = torch.arange(1.0, 101.0).to(dtype) / 100
    result = sa.nn.Hardshrink().init_from(sample, 0.5)(sample)
    assert float(zeros(result)) == pytest.approx(0.5, abs=0.011)  # float16 has ties
    assert result.dtype == dtype


def test_one_sided_thresholds_rank_the_value():
    relu = sa.nn.JumpReLU().init_from(SAMPLE, 0.8)
    assert float(zeros(relu(SAMPLE))) == pytest.approx(0.8)
    none = sa.nn.JumpReLU().init_from(SAMPLE, 0.1)  # half of the sample is below 0 already
    assert none.lambd == 0
    for side in ("positive", "negative"):
        shifted = sa.nn.Softshrink(sides=side, zero_other=True).init_from(SAMPLE, 0.8)
        assert float(zeros(shifted(SAMPLE))) == pytest.approx(0.8)
        passing = sa.nn.Softshrink(sides=side).init_from(SAMPLE, 0.8)
        acting = SAMPLE[SAMPLE > 0 if side == "positive" else SAMPLE < 0]
        assert float(zeros(passing(acting))) == pytest.approx(0.8, abs=1e-3)
        assert passing.lambd > shifted.lambd


def test_one_sided_channels_without_acting_entries_get_zero():
    sample = torch.tensor([[-1.0, 1.0], [-2.0, 2.0], [-3.0, 3.0], [-4.0, 4.0]])
    module = sa.nn.Softshrink(num_parameters=2, channel_dim=-1, sides="positive")
    assert module.init_from(sample, 0.5).lambd.tolist() == [0.0, 2.0]


def test_sigmoid_gate_closes_half_at_the_quantile():
    module = sa.nn.SigmoidGate(temperature=0.1).init_from(SAMPLE, 0.7)
    share = ((module(SAMPLE) / SAMPLE) <= 0.5).double().mean()
    assert float(share) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("learnable", [False, True])
def test_groups(learnable):
    x = torch.randn(100, 8, 3)
    per_row = sa.nn.GroupSoftshrink(learnable=learnable).init_from(x, 0.75)
    assert float(zeros(per_row(x).norm(dim=-1))) == pytest.approx(0.75)
    blocks = sa.nn.GroupSoftshrink(
        learnable=learnable, num_parameters=4, dim=1, group_size=2, channel_dim=1
    )
    died = blocks.init_from(x, 0.25)(x).unflatten(1, (4, 2)).norm(dim=2) == 0
    torch.testing.assert_close(died.double().mean((0, 2)), torch.full((4,), 0.25).double())


@pytest.mark.parametrize("learnable", [False, True])
def test_sparse_groups_keep_the_ratio(learnable):
    x = torch.randn(200, 8)
    layer = sa.nn.SparseGroupSoftshrink(0.2, learnable, group_lambd=0.6, group_size=4)
    layer.init_from(x, 0.8)
    assert float(zeros(layer(x))) == pytest.approx(0.8, abs=4 / x.numel())
    ratio = torch.as_tensor(layer.group_lambd) / torch.as_tensor(layer.lambd)
    torch.testing.assert_close(ratio.detach().reshape(()), torch.tensor(3.0))
    channels = sa.nn.SparseGroupSoftshrink(0.2, learnable, num_parameters=8, channel_dim=-1)
    assert float(zeros(channels.init_from(x, 0.5)(x))) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="but both are 0"):
        sa.nn.SparseGroupSoftshrink(0.0, group_lambd=0.0).init_from(x)


def test_firm_keeps_the_ratio_of_its_bounds():
    firm = sa.nn.Firmshrink(0.5, learnable=True, upper=2.0).init_from(SAMPLE)
    torch.testing.assert_close(firm.upper, 4 * firm.lambd)
    assert sa.nn.Firmshrink(0.5, upper=math.inf).init_from(SAMPLE).upper == math.inf
    zero = sa.nn.Firmshrink(0.0, upper=0.01).init_from(SAMPLE)
    assert zero.upper == zero.lambd > 0.01
    channels = sa.nn.Firmshrink(0.5, num_parameters=4, channel_dim=-1, upper=1.0)
    torch.testing.assert_close(channels.init_from(SAMPLE).upper, 2 * channels.lambd)


def test_changes_a_learned_lambda_in_place():
    module = sa.nn.Softshrink(learnable=True)
    before = module.lambd
    module.init_from(SAMPLE.requires_grad_())
    SAMPLE.requires_grad_(False)
    assert module.lambd is before
    assert module.lambd.requires_grad
    assert module.lambd.grad_fn is None
    fixed = sa.nn.Softshrink(num_parameters=4, channel_dim=-1).init_from(SAMPLE)
    assert fixed.state_dict()["lambd"].equal(fixed.lambd)


@pytest.mark.parametrize("bad", [1.0, -0.1, 80, math.nan])
def test_refuses_a_bad_sparsity(bad):
    module = sa.nn.Softshrink(0.3)
    with pytest.raises(ValueError, match=r"share of zeros, in \[0, 1\), got"):
        module.init_from(SAMPLE, bad)
    assert module.lambd == 0.3


def test_refuses_a_bad_sample():
    module = sa.nn.Softshrink(num_parameters=3)
    with pytest.raises(TypeError, match="sparsity= must be a number"):
        module.init_from(SAMPLE, "most")
    with pytest.raises(TypeError, match="floating-point"):
        module.init_from(torch.ones(3, dtype=torch.int64))
    for sample in (torch.empty(0, 3), torch.tensor([[1.0, math.nan, 2.0]])):
        with pytest.raises(ValueError, match="finite and not empty"):
            module.init_from(sample)
    with pytest.raises(ValueError, match=r"num_parameters=3, but dim 1 .* has size 4"):
        module.init_from(SAMPLE)


def test_clip_has_no_init_from():
    assert not hasattr(sa.nn.Clip(), "init_from")
