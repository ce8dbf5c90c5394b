"""Training with Lightning's Trainer equals a loop with ``loss + penalty()``."""

import contextlib
import copy

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sparsact as sa
from sparsact.integrations import LightningCallback

COUNT, BATCH, ACCUMULATION, EPOCHS = 20, 4, 2, 2  # 5 batches an epoch: the last update has one
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(5))
Y = X[:, :2] ** 2
SPEC = {"1": sa.L1(sa.LinearWarmup(0.3, steps=4)), "2": sa.L2(0.2)}
pytestmark = [
    pytest.mark.versions,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),  # Lightning's
]


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def validation_step(self, batch, index):
        self.training_step(batch, index)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fit(module, callback, folder, checkpoint=None, **settings):
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=callback,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{
            "accumulate_grad_batches": ACCUMULATION,
            "max_epochs": EPOCHS,
            "logger": False,
            "enable_checkpointing": False,
            "limit_val_batches": 0,
            **settings,
        },
    )
    batches = DataLoader(TensorDataset(X, Y), BATCH)
    trainer.fit(module, batches, batches, ckpt_path=checkpoint)
    return trainer


def train_by_hand(module, autocast=contextlib.nullcontext):
    """The weights after the same training, by a loop of our own.

    Lightning divides by ``accumulate_grad_batches`` even where an update has fewer batches.
    """
    model = copy.deepcopy(module.net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    penalty = sa.ActivationPenalty(model, SPEC)
    batches = list(zip(X.split(BATCH), Y.split(BATCH), strict=True))
    for _ in range(EPOCHS):
        for start in range(0, len(batches), ACCUMULATION):
            for x, y in batches[start : start + ACCUMULATION]:
                with autocast():
                    loss = nn.functional.mse_loss(model(x), y)
                ((loss + penalty()) / ACCUMULATION).backward()
            optimizer.step()
            optimizer.zero_grad()
            penalty.step()
    return list(model.parameters())


def callback(module):
    penalty = sa.ActivationPenalty(module.net, SPEC, mode="inject")
    return LightningCallback(penalty, sa.SparsityMeter(module.net, nn.Tanh))


def assert_equal_weights(module, expected, **tolerance):
    for got, want in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(got, want, **tolerance)


def hooks(model):
    return [h for m in model.modules() for h in [*m._forward_hooks, *m._forward_pre_hooks]]


def test_training_equals_a_hand_written_loop(tmp_path):
    module = Module()
    expected = train_by_hand(module)
    fit(module, callback(module), tmp_path)
    assert_equal_weights(module, expected)
    assert not hooks(module.net)


def test_the_loss_scale_of_float16_cancels(tmp_path):
    module = Module()
    expected = train_by_hand(module, lambda: torch.autocast("cpu", torch.float16))
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
    fit(module, callback(module), tmp_path, plugins=[precision])
    assert_equal_weights(module, expected, rtol=1e-3, atol=1e-3)


def test_a_resumed_training_continues_its_schedule(tmp_path):
    module = Module()
    expected = train_by_hand(module)
    trainer = fit(module, callback(module), tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Module()
    fit(resumed, callback(resumed), tmp_path, checkpoint=tmp_path / "half.ckpt")
    assert_equal_weights(resumed, expected)


def test_every_logger_gets_the_meter(tmp_path):
    module = Module()
    loggers = [TensorBoardLogger(tmp_path, "board"), CSVLogger(tmp_path, "table")]
    fit(
        module,
        callback(module),
        tmp_path,
        logger=loggers,
        log_every_n_steps=2,
        limit_val_batches=5,
    )
    log = EventAccumulator(loggers[0].log_dir, {"histograms": 0})
    log.Reload()
    density = log.Scalars("sparsity/1/density")
    assert [(event.step, event.value) for event in density] == [(2, 1.0), (4, 1.0), (6, 1.0)]
    coefficients = log.Scalars("penalty/1/coefficient")
    assert [event.value for event in coefficients] == pytest.approx([0.075, 0.225, 0.3])
    # updates of 8, 8 and 4 samples an epoch, 8 units; a validation in between is left out
    seen = [event.histogram_value.num for event in log.Histograms("sparsity/1/nonzero")]
    assert seen == [8 * 16, 8 * 8, 8 * 12]
    table = (tmp_path / "table" / "version_0" / "metrics.csv").read_text()
    assert "sparsity/1/density" in table.splitlines()[0]


def test_wandb_gets_scalars_and_histograms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = Module()
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    fit(module, callback(module), tmp_path, logger=logger, log_every_n_steps=2)
    summary = dict(logger.experiment.summary)
    logger.experiment.finish()
    assert 0 < summary["sparsity/1/density"] <= 1
    assert summary["sparsity/1/nonzero"]["_type"] == "histogram"
    assert sum(summary["sparsity/1/nonzero"]["values"]) > 0


def test_a_fit_that_fails_leaves_no_hook(tmp_path):
    class Failing(Module):
        def training_step(self, batch, index):
            return 1 / 0

    module = Failing()
    failing_callback = callback(module)
    with pytest.raises(ZeroDivisionError):
        fit(module, failing_callback, tmp_path)
    assert not hooks(module.net)


def test_refuses_a_penalty_in_mode_loss():
    penalty = sa.ActivationPenalty(Module().net, SPEC)
    with pytest.raises(ValueError, match="mode='inject', got mode='loss'"):
        LightningCallback(penalty)


class TestAgain:
    """One callback in several trainings."""

    def test_a_second_trainer_starts_its_schedule_again(self, tmp_path):
        module = Module()
        used = callback(module)
        for _ in range(2):
            expected = train_by_hand(module)
            trainer = fit(module, used, tmp_path, logger=CSVLogger(tmp_path), log_every_n_steps=1)
            assert_equal_weights(module, expected)
            assert "sparsity/1/density" in trainer.logger.experiment.metrics_keys
            assert not hooks(module.net)

    def test_a_second_fit_of_a_trainer_continues_its_schedule(self, tmp_path):
        module = Module()
        used = callback(module)
        (penalty,) = used._instruments.penalties
        trainer = fit(module, used, tmp_path)
        trainer.fit_loop.max_epochs = 2 * EPOCHS
        steps = trainer.global_step
        assert penalty.state_dict()["step"] == steps
        batches = DataLoader(TensorDataset(X, Y), BATCH)
        trainer.fit(module, batches, batches)
        assert penalty.state_dict()["step"] == trainer.global_step == 2 * steps
        assert not hooks(module.net)

    def test_after_a_training_that_failed(self, tmp_path):
        module = Module()
        used = callback(module)
        module.configure_gradient_clipping = lambda *args, **kwargs: 1 / 0
        with pytest.raises(ZeroDivisionError):
            fit(module, used, tmp_path)
        assert not hooks(module.net)
        del module.configure_gradient_clipping
        expected = train_by_hand(module)
        fit(module, used, tmp_path)
        assert_equal_weights(module, expected)

    def test_steps_end_before_the_first_log(self, tmp_path):
        module = Module()
        used = callback(module)
        for _ in range(2):
            fit(module, used, tmp_path, logger=CSVLogger(tmp_path), max_steps=1)
            assert not hooks(module.net)

    def test_another_model_is_refused(self, tmp_path):
        used = callback(Module())
        with pytest.raises(ValueError, match="ActivationPenalty of this callback was built for an"):
            fit(Module(), used, tmp_path)
        used = LightningCallback((), sa.SparsityMeter(Module().net, nn.Tanh))
        with pytest.raises(ValueError, match="SparsityMeter of this callback was built for an"):
            fit(Module(), used, tmp_path)
