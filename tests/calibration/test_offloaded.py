"""Models whose weights stay on the disk until a layer runs."""

import weakref

import pytest
import torch

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.scores import weight_score
from sparsact.text import load_language_model
from tiny_language import gpt2, llama, save_model

IDS = torch.randint(32, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[llama, gpt2])
def pair(request, tmp_path):
    """A model in memory, and the same one on the disk."""
    model = request.param()
    save_model(tmp_path, model)
    return model, load_language_model(str(tmp_path), offload=True)[0]


@pytest.mark.filterwarnings("ignore:score='loss' keeps the offloaded weights")
@pytest.mark.parametrize("score", ["magnitude", "weight", "loss"])
def test_the_plan_is_that_of_the_model_in_memory(pair, score):
    model, offloaded = pair
    assert any(parameter.is_meta for parameter in offloaded.parameters())
    plan, other = (sa.calibrate(each, [IDS], 0.5, score=score) for each in pair)
    assert plan.thresholds.keys() == other.thresholds.keys()
    for name, threshold in plan.thresholds.items():
        assert torch.equal(threshold, other.thresholds[name])
    assert plan.achieved == other.achieved
    other.check(model)
    plan.check(offloaded)
    with plan.apply(model), other.apply(offloaded), torch.no_grad():
        assert torch.equal(model(IDS).logits, offloaded(IDS).logits)
    assert any(parameter.is_meta for parameter in offloaded.parameters())


def test_a_score_by_gradients_warns(pair):
    with pytest.warns(UserWarning, match="'loss' keeps the offloaded weights"):
        sa.calibrate(pair[1], [IDS], 0.5)


def test_what_changes_weights_refuses(pair):
    model, offloaded = pair
    plan = sa.calibrate(model, [IDS], 0.5, score="magnitude")
    for change in (
        lambda: sa.compensate(plan, offloaded, [IDS], rank=2),
        lambda: sa.tune(plan, offloaded, [IDS], 2),
        lambda: sa.sparsify(offloaded, plan),
        lambda: sa.compensate(plan, model, [IDS], rank=2).apply(offloaded),
    ):
        with pytest.raises(InputError, match="are offloaded by accelerate"):
            change()


def test_another_model_is_recognised(pair):
    model, offloaded = pair
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    plan = sa.calibrate(model, [IDS], 0.5, score="magnitude")
    with pytest.raises(InputError, match="another model"):
        plan.check(offloaded)


def peak_of(layers, folder, score, monkeypatch):
    """The most entries of the blocks' weights that were in memory at once."""
    save_model(folder, llama(num_hidden_layers=layers))
    model, _ = load_language_model(str(folder), offload=True)
    brought, peaks = weakref.WeakSet(), []

    def look(linear, *_):
        brought.add(Held(linear.weight))
        peaks.append(sum({held.place: held.size for held in brought}.values()))

    def read(linear):
        look(linear)
        return weight_t(linear)

    monkeypatch.setattr(weight_score, "weight_t", read)
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(look)
    sa.calibrate(model, [IDS[:1, :3]], 0.5, score=score)
    assert len(peaks) > 7 * layers
    return max(peaks)


class Held:
    """Lives as long as the memory of a tensor."""

    def __init__(self, tensor):
        storage = tensor.untyped_storage()
        self.place, self.size = storage.data_ptr(), tensor.numel()
        storage.held = self


@pytest.mark.parametrize("score", ["magnitude", "weight"])
def test_weights_in_memory_do_not_grow_with_the_depth(score, tmp_path, monkeypatch):
    """Six blocks have 55,296 entries."""
    # a layer of 64·32, and for the norms of a site the weights of its readers and the layer before
    most = 64 * 32 if score == "magnitude" else 4 * 64 * 32
    for layers in (2, 6):
        assert 0 < peak_of(layers, tmp_path / str(layers), score, monkeypatch) <= most
