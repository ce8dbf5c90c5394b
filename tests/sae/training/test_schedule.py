"""Warm-up, decay, schedulers of torch, and when latents are resampled."""

import pytest
import torch
from torch.optim import lr_scheduler

from sparsact._common.errors import InputError
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
from sparsact.sae.training import sae_trainer
from sparsact.sae.training.schedule import Schedule, warmups

LR = 1e-3


def trainer(kind="topk", **config):
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4))
    return SAETrainer(sae, SAETrainConfig(**{"lr": LR, **config}))


SCHEDULERS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 12),
    "exponential": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.7),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 5 * LR, 20),
    "steps": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [3, 6]),
}


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_torch_is_respected(name, warmup, batches):
    made = trainer(lr_warmup_steps=warmup)
    scheduler = SCHEDULERS[name](made.optimizer)
    alone = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], LR)
    reference = SCHEDULERS[name](alone)
    for step in range(1, 11):
        expected = alone.param_groups[0]["lr"] * min(step / warmup if warmup else 1, 1)
        before = made.sae.W_dec.detach().clone()
        stats = made.step(next(batches))
        assert stats.lr == pytest.approx(expected, rel=1e-9)
        assert stats.lr == 0 or not torch.equal(before, made.sae.W_dec)
        assert made.optimizer.param_groups[0]["lr"] == alone.param_groups[0]["lr"]
        alone.step()
        scheduler.step()
        reference.step()


def test_the_scheduled_rate_is_that_of_the_update():
    """One step of Adam moves each entry by the learning rate."""
    made = trainer("relu", lr_warmup_steps=4, clip_grad_norm=1e6, normalize_input=False)
    made.optimizer.param_groups[0]["lr"] = 0.008  # set by hand, as a scheduler does
    made.sae.is_fresh = False
    before = made.sae.encoder.weight.detach().clone()
    stats = made.step(torch.randn(64, 16))
    moved = (made.sae.encoder.weight - before).abs()
    assert stats.lr == 0.002
    assert moved.median().item() == pytest.approx(0.002, rel=1e-3)


def test_the_decay_ends_with_the_run(batches):
    made = trainer(lr_warmup_steps=2, lr_decay_steps=4)
    rates = [stats.lr / LR for stats in made.run(batches, 10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    for one in (made, trainer(lr_decay_steps=4)):  # after a run, and without one
        with pytest.raises(InputError, match="lr_decay_steps= needs the length of the run"):
            one.step(next(batches))
    with pytest.raises(InputError, match="lr_decay_steps= must be finite and not negative, got -1"):
        SAETrainConfig(lr_decay_steps=-1)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, (0, 0)), (40, (2, 10)), (100, (5, 25)), (300, (15, 75)), (2000, (100, 500))],
)
def test_default_warm_ups_fit_the_length_of_the_run(steps, expected):
    assert warmups(SAETrainConfig(), steps) == expected
    assert warmups(SAETrainConfig(), 10**6) == warmups(SAETrainConfig(), None) == (100, 500)
    own = SAETrainConfig(lr_warmup_steps=7, sparsity_warmup_steps=0)
    assert warmups(own, steps) == (7, 0)


def test_a_short_run_has_a_short_warm_up(batches):
    stats = list(trainer("relu").run(batches, 40))
    assert [step.lr / LR for step in stats[:3]] == pytest.approx([0.5, 1, 1])
    assert [stats[i].coefficient for i in (0, 5, 10, 39)] == pytest.approx([0, 5e-4, 1e-3, 1e-3])


@pytest.mark.parametrize("steps", [None, 40])
def test_a_resumed_training_keeps_its_warm_ups(steps, batches):
    first = trainer("relu")
    if steps is None:
        first.step(next(batches))
    else:
        list(first.run((next(batches) for _ in range(3)), steps))
    second = trainer("relu")
    second.load_state_dict(first.state_dict())
    stats = next(second.run(batches, 10**6))
    assert second.schedule.lr_warmup == first.schedule.lr_warmup == (2 if steps else 100)
    assert stats.lr == pytest.approx(LR if steps else LR * 2 / 100)


def test_a_checkpoint_of_version_0_1_continues(batches):
    first = trainer("relu")
    state = first.state_dict() | {"steps": 30}
    first.step(next(batches))
    state = first.state_dict()
    del state["schedule"], state["lr"]
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = LR / 100  # included the warm-up
    second = trainer("relu")
    second.load_state_dict(state)
    assert second.step(next(batches)).lr == pytest.approx(LR * 2 / 100)


def test_another_rate_applies_when_a_training_is_resumed(batches):
    first = trainer(lr_warmup_steps=0)
    scheduler = lr_scheduler.ExponentialLR(first.optimizer, 0.5)
    first.step(next(batches))
    scheduler.step()
    for lr in (LR, LR / 10):
        second = trainer(lr_warmup_steps=0, lr=lr)
        second.load_state_dict(first.state_dict())
        assert second.step(next(batches)).lr == pytest.approx(lr / 2)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (20, 20, []),  # the last step
        (20, 5, [5, 10, 15]),
        (20, 4, [4, 8, 12, 16]),
        (20, 10, [10]),
        (10, 9, []),
        (9, 7, [7]),
        (5, 1, [1, 2, 3, 4]),
        (1, 1, []),
        (12, 0, []),
    ],
)
def test_none_is_resampled_in_the_last_fifth(steps, every, expected, batches, monkeypatch):
    made, seen = trainer("relu", resample_every=every), []

    def resample(sae, dead, *_):
        seen.append(made.steps)
        return torch.zeros_like(dead)

    monkeypatch.setattr(sae_trainer, "resample_", resample)
    list(made.run(batches, steps))
    assert seen == expected


def test_without_the_length_of_a_run_all_are_resampled():
    schedule = Schedule(SAETrainConfig(resample_every=5))
    assert [step for step in range(1, 21) if schedule.resamples(step)] == [5, 10, 15, 20]
