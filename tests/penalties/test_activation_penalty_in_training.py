"""Penalties in typical training loops."""

import gc
import tracemalloc
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.utils import _pytree
from torch.utils.checkpoint import checkpoint

import sparsact as sa

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
MODES = pytest.mark.parametrize("mode", ["loss", "inject"])


class Net(nn.Module):
    """Two blocks, each run with or without a checkpoint."""

    def __init__(self, checkpointed=None):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, 2)
        self.checkpointed = checkpointed

    def forward(self, x):
        for block in (self.first, self.second):
            if self.checkpointed is None:
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.checkpointed == "reentrant")
        return self.head(x)


def reference(model, x=X, scale=1.0):
    """The gradients of the loss and the penalty of `attach`, without any hook."""
    twin = Net()
    twin.load_state_dict(model.state_dict())
    first = twin.first(x)
    second = twin.second(first)
    loss = twin.head(second).square().mean()
    loss = loss + (0.3 * first.abs().sum() + 0.2 * second.square().sum()) / len(x)
    (scale * loss).backward()
    return [p.grad for p in twin.parameters()]


def attach(model, **keywords):
    spec = {"*first.1": sa.L1(0.3), "*second.1": sa.L2(0.2)}
    return sa.ActivationPenalty(model, spec, **keywords)


def train(model, penalty, x=X):
    """One backward pass the way the mode asks for; the gradients."""
    loss = model(x).square().mean()
    if penalty.mode == "loss":
        loss = loss + penalty()
    loss.backward()
    return [p.grad for p in model.parameters()]


def assert_all_close(got, want, **tolerance):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@MODES
@pytest.mark.parametrize("checkpointed", [None, "non-reentrant"])
def test_both_modes_give_the_gradients_of_the_sum(mode, checkpointed):
    model = Net(checkpointed)
    assert_all_close(train(model, attach(model, mode=mode)), reference(model))


@pytest.mark.versions
def test_inject_under_reentrant_checkpointing():
    model = Net("reentrant")
    penalty = attach(model, mode="inject")
    x = X.clone().requires_grad_()  # reentrant checkpointing needs an input with gradient
    assert_all_close(train(model, penalty, x), reference(model))


@pytest.mark.versions
def test_reentrant_checkpointing_is_refused_with_advice():
    model = Net("reentrant")
    attach(model)
    with pytest.raises(RuntimeError, match=r"'first\.1' runs inside reentrant.*mode=\"inject\""):
        model(X.clone().requires_grad_())


@pytest.mark.versions
def test_a_forward_without_gradients_is_not_taken_for_a_reentrant_checkpoint():
    model = Net("reentrant").eval()
    penalty = attach(model)
    model(X.clone().requires_grad_())
    assert penalty().item() == 0


def test_injected_penalty_is_a_number_to_log():
    model = Net()
    penalty = attach(model, mode="inject")
    model(X)
    value = penalty()
    hidden = model.first(X)
    want = 0.3 * hidden.abs().sum() + 0.2 * model.second(hidden).square().sum()
    assert not value.requires_grad
    assert value.item() == pytest.approx(want.item() / len(X))


def test_inject_does_nothing_in_eval_mode_and_does_not_change_outputs():
    model = Net()
    plain = model(X)
    attach(model, mode="inject")
    assert model(X).equal(plain)
    model.eval()
    model(X).square().mean().backward()
    got = [p.grad for p in model.parameters()]
    fresh = Net()
    fresh.load_state_dict(model.state_dict())
    fresh(X).square().mean().backward()
    assert_all_close(got, [p.grad for p in fresh.parameters()])


def test_inject_on_the_input_trains_the_threshold_of_l0():
    grads = []
    for mode in ("loss", "inject"):
        torch.manual_seed(0)
        act = sa.nn.JumpReLU(0.5, learnable=True, bandwidth=1.0)
        model = nn.Sequential(nn.Linear(4, 8), act)
        penalty = sa.ActivationPenalty(
            model, {"1": sa.L0(0.1, threshold=act)}, on="input", mode=mode
        )
        grads.append(train(model, penalty))
    assert_all_close(*grads)
    assert grads[0][-1].abs().sum() > 0


def test_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="mode= must be one of"):
        attach(Net(), mode="add")


class Output(OrderedDict):
    """A mapping that is registered with pytree, like ModelOutput of transformers."""


_pytree.register_pytree_node(
    Output,
    lambda out: (list(out.values()), list(out)),
    lambda values, keys: Output(zip(keys, values, strict=True)),
)


class Wrapped(nn.Module):
    """Returns its two activations in a container."""

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = Net(), wrap

    def forward(self, x):
        first = self.net.first(x)
        return self.wrap(first, self.net.second(first))


@MODES
@pytest.mark.parametrize(
    ("wrap", "pick"),
    [
        (lambda a, b: (a, b), lambda out: out[1]),
        (lambda a, b: {"a": a, "b": b}, lambda out: out["b"]),
        (lambda a, b: Output(a=a, b=b), lambda out: out["b"]),
    ],
    ids=["tuple", "dict", "ModelOutput"],
)
def test_select_in_both_modes(mode, wrap, pick):
    model = Wrapped(wrap)
    penalty = sa.ActivationPenalty(model, {"": sa.L1(0.5)}, "sum", select=pick, mode=mode)
    out = model(X)
    assert type(out) is type(wrap(X, X))
    loss = pick(out).square().sum() + (penalty() if mode == "loss" else 0)
    got = torch.autograd.grad(loss, list(model.net.first.parameters()))
    second = model.net.second(model.net.first(X))
    want = second.square().sum() + 0.5 * second.abs().sum()
    assert_all_close(got, torch.autograd.grad(want, list(model.net.first.parameters())))


@MODES
def test_gradient_accumulation_equals_one_batch(mode):
    model = Net()
    penalty = attach(model, mode=mode, scale=lambda: 1 / 3)
    for part in X.chunk(3):
        loss = model(part).square().mean()
        if mode == "loss":
            loss = loss + penalty()
        (loss / 3).backward()
    assert_all_close([p.grad for p in model.parameters()], reference(model))


def test_one_backward_for_several_forwards():
    model = Net()
    penalty = attach(model, accumulate=True)
    losses = [model(part).square().mean() / 3 for part in X.chunk(3)]
    (sum(losses) + penalty() / 3).backward()
    assert_all_close([p.grad for p in model.parameters()], reference(model))


@MODES
def test_the_scale_of_a_grad_scaler_cancels(mode):
    model = Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    penalty = attach(model, mode=mode, scale=scaler.get_scale)
    loss = model(X).square().mean()
    if mode == "loss":
        loss = loss + penalty()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    assert_all_close([p.grad for p in model.parameters()], reference(model))


@MODES
def test_bfloat16_autocast(mode):
    model = Net()
    penalty = attach(model, mode=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(X)
        value = penalty()
    assert out.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    loss = out.float().square().mean()
    (loss + value if mode == "loss" else loss).backward()
    got = [p.grad for p in model.parameters()]
    assert_all_close(got, reference(model), rtol=0.05, atol=0.02)


@MODES
def test_float16_sums_beyond_its_range(mode):
    model = nn.Sequential(nn.Identity()).half()
    penalty = sa.ActivationPenalty(model, {"0": sa.L1(1.0)}, "batch_mean", mode=mode)
    x = torch.full((4, 100_000), 2.0, dtype=torch.float16, requires_grad=True)
    out = model(x)
    value = penalty()
    assert value.item() == 200_000
    (out.float().mean() + (value if mode == "loss" else 0)).backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.25 + 1 / x.numel()))


@MODES
# torch.compile leaves the hooks of the outermost module out of the graph; when it looks at their
# arguments it warns about .grad, and hides that warning unless warnings are errors
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.versions
def test_compiled_in_one_graph(mode):
    torch._dynamo.reset()
    model = Net()
    scheduled = {
        "first.1": sa.L1(sa.LinearWarmup(0.3, steps=2)),
        "second.1": sa.L2(0.2),
    }
    penalty = sa.ActivationPenalty(model, scheduled, mode=mode, scale=lambda: 1.0)
    compiled = torch.compile(model, fullgraph=True)
    for _ in range(2):
        compiled(X)
        penalty()
        penalty.step()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(2):
        model.zero_grad()
        loss = compiled(X).square().mean()
        value = penalty()
        (loss + value if mode == "loss" else loss).backward()
        assert_all_close([p.grad for p in model.parameters()], reference(model))
        penalty.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0


@pytest.mark.parametrize("build", [Net, lambda: Net().first])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.versions
def test_hooks_added_after_the_first_compiled_call_raise(build):
    torch._dynamo.reset()
    model = build()
    compiled = torch.compile(model, fullgraph=True)
    compiled(X)
    penalty = sa.ActivationPenalty(model, {nn.Tanh: sa.L1(0.1)})
    compiled(X)
    with pytest.raises(RuntimeError, match="attach the penalty to the model, then compile it"):
        penalty()
    model(X)
    assert penalty().item() > 0


@MODES
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.versions
def test_checkpointing_inside_a_compiled_model(mode, fullgraph):
    """The penalty counts once; with ``fullgraph=True`` torch requires a flag for this."""
    torch._dynamo.reset()
    model = Net("non-reentrant")
    penalty = attach(model, mode=mode)
    compiled = torch.compile(model, fullgraph=fullgraph)
    flag = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    known = hasattr(torch._dynamo.config, flag)  # torch 2.8 refuses such a model in one graph
    if fullgraph:
        message = "(?i)side_?effects" if known else None  # before 2.13 it does not name the flag
        with pytest.raises(torch._dynamo.exc.TorchDynamoException, match=message):
            compiled(X)
    if fullgraph and not known:
        return
    hidden = model.first(X)
    want = (0.3 * hidden.abs().sum() + 0.2 * model.second(hidden).square().sum()) / len(X)
    with torch._dynamo.config.patch({flag: fullgraph} if known else {}):
        for _ in range(2):
            model.zero_grad()
            loss = compiled(X).square().mean()
            value = penalty()
            torch.testing.assert_close(value.detach(), want.detach())
            (loss + value if mode == "loss" else loss).backward()
            assert_all_close([p.grad for p in model.parameters()], reference(model))
            with pytest.raises(RuntimeError, match="call the model first"):
                penalty()  # the recomputation in backward left nothing behind


@pytest.mark.versions
def test_compiled_with_a_mask_and_several_penalties():
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())
    x = torch.randn(2, 4, 6)
    penalty = sa.ActivationPenalty(
        model, {"0": sa.SparseGroupLasso(0.1, group_size=2), "1": sa.LogSum(0.1)}, "token_mean"
    )
    compiled = torch.compile(model, fullgraph=True)
    for mask in (torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]), torch.ones(2, 4).bool(), None):
        penalty.set_mask(mask)
        results = []
        for run in (model, compiled):
            model.zero_grad()
            loss = run(x).sum() + penalty()
            loss.backward()
            results.append([loss.detach(), *[p.grad for p in model.parameters()]])
        assert_all_close(*results)


@pytest.mark.parametrize(
    ("mode", "accumulate"),  # mode "loss" keeps accumulated graphs on purpose
    [("loss", False), ("inject", False), ("inject", True)],
)
def test_memory_does_not_grow_when_it_is_never_read(mode, accumulate):
    model = Net()
    penalty = attach(model, mode=mode, accumulate=accumulate)
    alive = []
    model.second[1].register_forward_hook(lambda m, args, out: alive.append(weakref.ref(out)))
    for _ in range(50):
        model(X)
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 1
    model.second[1]._forward_hooks.popitem()
    tracemalloc.start()
    held = []
    for _ in range(2):
        for _ in range(1000):
            model(X)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 16 * 1000  # less than any object per forward
    penalty.remove()


def test_holds_no_tensor_that_autograd_does_not_keep():
    """The value keeps its graph alive; tensors that the graph does not save are freed."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Identity(), nn.Linear(8, 2))
    penalty = sa.ActivationPenalty(model, {"2": sa.KLSparsity(0.1)}, "sum", select=torch.sigmoid)
    alive = []
    model[2].register_forward_hook(lambda m, args, out: alive.append(weakref.ref(out)))
    model(X)
    gc.collect()
    assert alive[0]() is None
    assert penalty().item() > 0


def test_errors_of_penalties_name_the_module():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    sa.ActivationPenalty(model, {"1": sa.KLSparsity(0.1)})
    with pytest.raises(ValueError, match=r"at '1': KLSparsity expects values in \[0, 1\]"):
        model(X)
    odd = nn.Sequential(nn.Linear(4, 6))
    sa.ActivationPenalty(odd, {"0": sa.GroupLasso(1.0, group_size=4)})
    with pytest.raises(ValueError, match="at '0': group_size=4 does not divide"):
        odd(X)
