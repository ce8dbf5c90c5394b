"""Penalties attached to models: their values, when they count, and their hooks."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import sparsact as sa

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def activations(model, x=X):
    """The outputs of the two activations of `net`."""
    first = model[1](model[0](x))
    return first, model[3](model[2](first))


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


def hooks(model):
    return [
        hook
        for module in model.modules()
        for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    ]


@pytest.mark.parametrize(
    ("reduction", "size"),
    [("sum", 1), ("mean", 6 * 8), ("batch_mean", 6), ("token_mean", 6)],
)
def test_equals_the_hand_written_penalty(reduction, size):
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(0.3), "3": sa.L2(0.2)}, reduction)
    got = model(X).square().sum() + penalty()
    first, second = activations(model)
    want = model[4](second).square().sum()
    want = want + (0.3 * first.abs().sum() + 0.2 * second.square().sum()) / size
    torch.testing.assert_close(got, want)
    for a, b in zip(gradients(model, got), gradients(model, want), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("reduction", "size"),
    [("sum", 1), ("mean", 2 * 3 * 5), ("batch_mean", 2), ("token_mean", 2 * 3)],
)
def test_reductions_of_a_sequence(reduction, size):
    model = nn.Sequential(nn.Tanh())
    x = torch.randn(2, 3, 5)
    penalty = sa.ActivationPenalty(model, {"0": sa.L1(1.0)}, reduction)
    model(x)
    assert penalty().item() == pytest.approx(x.tanh().abs().sum().item() / size)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), ()])
def test_empty_and_scalar_activations(shape):
    model = nn.Sequential(nn.Tanh())
    penalty = sa.ActivationPenalty(model, {"0": sa.L1(1.0)}, "batch_mean")
    x = torch.ones(shape)
    model(x)
    assert penalty().item() == pytest.approx(x.tanh().sum().item())


def test_refuses_an_unknown_reduction():
    with pytest.raises(ValueError, match="reduction= must be one of"):
        sa.ActivationPenalty(net(), {"1": sa.L1(1.0)}, "batch")


def test_value_belongs_to_the_last_forward():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum")
    model(X)
    model(2 * X)
    assert penalty().item() == pytest.approx(activations(model, 2 * X)[0].abs().sum().item())


def test_accumulates_until_it_is_read():
    model = net()
    sums = [activations(model, k * X)[0].abs().sum().item() for k in (1, 2, 3)]
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum", accumulate=True)
    model(X)
    model(2 * X)
    assert penalty().item() == pytest.approx(sums[0] + sums[1])
    model(3 * X)
    assert penalty().item() == pytest.approx(sums[2])


def test_reading_clears():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)})
    with pytest.raises(RuntimeError, match="call the model first"):
        penalty()
    model(X)
    penalty()
    with pytest.raises(RuntimeError, match="call the model first"):
        penalty()


def test_value_is_zero_in_eval_mode_and_without_gradients():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)})
    model.eval()
    model(X)
    assert penalty().item() == 0
    model.train()
    with torch.no_grad():
        model(X)
    assert penalty().item() == 0
    model(X)
    with torch.no_grad():  # a validation in between replaces the value
        model(X)
    assert penalty().item() == 0
    model(X)
    assert penalty().item() > 0


def test_a_pattern_without_a_match_names_the_nearest():
    model = nn.Sequential()
    model.add_module("encoder_act", nn.ReLU())
    with pytest.raises(ValueError, match="did you mean 'encoder_act'"):
        sa.ActivationPenalty(model, {"encoder_akt": sa.L1(1.0)})
    with pytest.raises(ValueError, match="did you mean 'weight'"):
        sa.WeightPenalty(nn.Linear(2, 2), {"wieght": sa.L1(1.0)})


def test_two_patterns_on_one_target_raise():
    with pytest.raises(ValueError, match="is matched by '1' and by type Tanh"):
        sa.ActivationPenalty(net(), {"1": sa.L1(1.0), nn.Tanh: sa.L2(1.0)})
    with pytest.raises(ValueError, match="one parameter takes one"):
        sa.WeightPenalty(net(), {"0.weight": sa.L1(1.0), "*.weight": sa.L2(1.0)})
    model = net()
    assert not hooks(model)


def test_a_failed_construction_leaves_no_hook():
    model = net()
    with pytest.raises(ValueError, match="on must be"):
        sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, on="outputs")
    assert not hooks(model)


@pytest.mark.parametrize("on", ["input", "output"])
def test_the_model_itself_can_be_penalised(on):
    model = nn.Tanh()
    penalty = sa.ActivationPenalty(model, {"": sa.L1(1.0)}, "sum", on=on)
    model(X)
    assert penalty().item() == pytest.approx((X if on == "input" else X.tanh()).abs().sum().item())


def test_the_input_of_a_module():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum", on="input")
    model(X)
    assert penalty().item() == pytest.approx(model[0](X).abs().sum().item())


def test_a_module_used_twice_counts_twice():
    act, linear = nn.Tanh(), nn.Linear(4, 4)
    model = nn.Sequential(linear, act, linear, act)
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum")
    model(X)
    first = linear(X).tanh()
    second = linear(first).tanh()
    assert penalty().item() == pytest.approx((first.abs().sum() + second.abs().sum()).item())
    model(X)
    model(X)
    assert penalty().item() == pytest.approx((first.abs().sum() + second.abs().sum()).item())


def test_a_module_called_alone_counts_with_its_last_call():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum")
    model[1](2 * X)
    model[1](X)
    assert penalty().item() == pytest.approx(X.tanh().abs().sum().item())


def test_a_failed_forward_does_not_affect_the_next():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, "sum")
    with pytest.raises(RuntimeError):
        model(torch.zeros(3, 5))
    model[1](X)
    model[1](X)
    assert penalty().item() == pytest.approx(X.tanh().abs().sum().item())


class Checkpointed(nn.Module):
    def __init__(self, use_checkpoint, **keywords):
        super().__init__()
        self.body, self.head = net(), nn.Linear(2, 1)
        self.use_checkpoint, self.keywords = use_checkpoint, keywords

    def forward(self, x):
        if self.use_checkpoint:
            return self.head(checkpoint(self.body, x, **self.keywords))
        return self.head(self.body(x))


@pytest.mark.parametrize("penalised", [sa.L1(0.5), sa.L2(0.5), sa.ElasticNet(0.5)])
@pytest.mark.versions
def test_checkpointing_counts_once_and_gives_equal_gradients(penalised):
    results = []
    plain = Checkpointed(False)
    saving = Checkpointed(True, use_reentrant=False)
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):
        penalty = sa.ActivationPenalty(model, {nn.Tanh: penalised}, "sum")
        output = model(X)
        value = penalty()
        (output.square().sum() + value).backward()
        results.append([value.detach(), *[p.grad for p in model.parameters()]])
        with pytest.raises(RuntimeError, match="call the model first"):
            penalty()  # the recomputation left nothing behind
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.versions
def test_checkpointing_of_the_model_itself():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(0.5)}, "sum", accumulate=True)
    out = checkpoint(model, X, use_reentrant=False)
    value = penalty()
    want = 0.5 * activations(model)[0].abs().sum()
    torch.testing.assert_close(value, want)
    got = gradients(model, out.sum() + value)
    for a, b in zip(got, gradients(model, model(X).sum() + want), strict=True):
        torch.testing.assert_close(a, b)
    penalty()


def test_removal_leaves_no_hook():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)})
    assert hooks(model)
    penalty.remove()
    penalty.remove()
    assert not hooks(model)
    with sa.ActivationPenalty(model, {"1": sa.L1(1.0)}, on="input") as penalty:
        model(X)
        assert penalty().item() > 0
    assert not hooks(model)


def test_holds_no_activation_and_no_graph_after_reading():
    model = net()
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1.0)})
    held = []
    model[1].register_forward_hook(lambda module, args, out: held.append(weakref.ref(out)))
    loss = model(X).sum() + penalty()
    loss.backward()
    del loss
    gc.collect()
    assert held[0]() is None
    model(X)
    penalty.remove()
    gc.collect()
    assert held[1]() is None


def test_weight_penalty_uses_the_current_values():
    model = net()
    penalty = sa.WeightPenalty(model, {"*.weight": sa.L2(0.1), "0.bias": sa.L1(0.2)})
    for _ in range(2):
        want = sum(0.1 * model[i].weight.square().sum() for i in (0, 2, 4))
        want = want + 0.2 * model[0].bias.abs().sum()
        torch.testing.assert_close(penalty(), want)
        with torch.no_grad():
            model[0].weight.mul_(2)


def test_weight_penalty_gradient():
    model = nn.Linear(3, 2)
    sa.WeightPenalty(model, {"weight": sa.L2(0.5)})().backward()
    torch.testing.assert_close(model.weight.grad, model.weight.detach())
    assert model.bias.grad is None


def test_weight_penalty_counts_a_shared_parameter_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    value = sa.WeightPenalty(model, {"*.weight": sa.L1(1.0)})()
    torch.testing.assert_close(value, model[0].weight.abs().sum())
