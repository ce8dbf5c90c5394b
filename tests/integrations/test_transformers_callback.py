"""Training with transformers' Trainer equals a loop with ``loss + penalty()``."""

import copy
import math

import pytest
import torch
import transformers
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

import sparsact as sa
from sparsact.integrations import TransformersCallback

COUNT, BATCH, ACCUMULATION, EPOCHS = 18, 4, 2, 2  # 5 batches an epoch: the last update has one
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(5))
Y = X[:, :2] ** 2
SPEC = {"net.1": sa.L1(sa.LinearWarmup(0.3, steps=4)), "net.2": sa.L2(0.2)}

pytestmark = pytest.mark.versions


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x, labels=None):
        out = self.net(x)
        return {"loss": nn.functional.mse_loss(out, labels), "logits": out}


class KeywordLoss(Model):
    """The trainer passes it num_items_in_batch, and leaves the division to it."""

    def forward(self, x, labels=None, num_items_in_batch=None, **kwargs):
        out = self.net(x)
        loss = (out - labels).square().sum()
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
        return {"loss": loss, "logits": out}


class InOrder(transformers.Trainer):
    """Reads its data in their order."""

    def get_train_dataloader(self):
        batch = self.args.per_device_train_batch_size
        data = DataLoader(self.train_dataset, batch, collate_fn=self.data_collator)
        return self.accelerator.prepare(data)


def build_trainer(model, folder, **arguments):
    data = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "num_train_epochs": EPOCHS,
        "optim": "sgd",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "dataloader_pin_memory": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        **arguments,
    }
    return InOrder(
        model, transformers.TrainingArguments(**settings), train_dataset=data, eval_dataset=data
    )


def train_by_hand(model, epochs=EPOCHS):
    """The weights after the same training, by a loop of our own."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    penalty = sa.ActivationPenalty(model, SPEC)
    batches = list(zip(X.split(BATCH), Y.split(BATCH), strict=True))
    for _ in range(epochs):
        for start in range(0, len(batches), ACCUMULATION):
            together = batches[start : start + ACCUMULATION]
            for x, y in together:
                if isinstance(model, KeywordLoss):
                    items = torch.tensor(sum(y.numel() for _, y in together))
                    loss = model(x, y, items)["loss"] + penalty() / len(together)
                else:
                    loss = (model(x, y)["loss"] + penalty()) / len(together)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            penalty.step()
    return list(model.parameters())


def attach(model, trainer):
    penalty = sa.ActivationPenalty(model, SPEC, mode="inject")
    return TransformersCallback(penalty, sa.SparsityMeter(model, nn.Tanh)).attach(trainer)


def assert_equal_weights(model, expected):
    for got, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(got, want)


def hooks(model):
    return [h for m in model.modules() for h in [*m._forward_hooks, *m._forward_pre_hooks]]


@pytest.mark.parametrize("build", [Model, KeywordLoss])
def test_training_equals_a_hand_written_loop(build, tmp_path):
    model = build()
    expected = train_by_hand(model)
    attach(model, build_trainer(model, tmp_path)).train()
    assert_equal_weights(model, expected)
    assert not hooks(model)


def test_the_loss_scale_of_float16_cancels(tmp_path):
    model = Model()
    expected = train_by_hand(model)
    trainer = build_trainer(model, tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    attach(model, trainer).train()
    assert_equal_weights(model, expected)


def test_a_resumed_training_continues_its_schedule(tmp_path):
    model = Model()
    expected = train_by_hand(model)
    start = copy.deepcopy(model.state_dict())
    saving = {"save_strategy": "epoch"}
    attach(model, build_trainer(model, tmp_path, **saving, num_train_epochs=1)).train()
    model.load_state_dict(start)  # all comes from the checkpoint
    trainer = build_trainer(model, tmp_path, **saving)
    attach(model, trainer).train(resume_from_checkpoint=True)
    assert_equal_weights(model, expected)


def test_every_tracker_gets_the_meter(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    model = Model()
    trainer = build_trainer(
        model, tmp_path, report_to=["tensorboard"], logging_steps=2, eval_strategy="epoch"
    )
    attach(model, trainer).train()
    log = EventAccumulator(str(tmp_path / "logs"), {"histograms": 0})
    log.Reload()
    density = log.Scalars("train/sparsity/net.1/density")
    assert [(event.step, event.value) for event in density] == [(2, 1.0), (4, 1.0), (6, 1.0)]
    coefficients = log.Scalars("train/penalty/net.1/coefficient")
    assert [event.value for event in coefficients] == pytest.approx([0.15, 0.3, 0.3])
    histograms = log.Histograms("sparsity/net.1/nonzero")
    # updates of 8, 8 and 2 samples an epoch, 8 units; an evaluation in between is left out
    seen = [event.histogram_value.num for event in histograms]
    assert seen == [8 * 16, 8 * 8, 8 * 10]
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(math.isfinite(entry["penalty/value"]) for entry in logged)


def test_wandb_gets_scalars_and_histograms(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    model = Model()
    attach(model, build_trainer(model, tmp_path, report_to=["wandb"], logging_steps=2)).train()
    summary = dict(wandb.run.summary)
    wandb.finish()
    assert summary["train/sparsity/net.1/density"] > 0
    assert summary["sparsity/net.1/nonzero"]["_type"] == "histogram"


def test_a_callback_that_was_not_attached_raises(tmp_path):
    model = Model()
    trainer = build_trainer(model, tmp_path)
    trainer.add_callback(TransformersCallback())
    with pytest.raises(RuntimeError, match=r"callback\.attach\(trainer\)"):
        trainer.train()


def test_refuses_a_penalty_in_mode_loss():
    penalty = sa.ActivationPenalty(Model(), SPEC)
    with pytest.raises(ValueError, match="mode='inject', got mode='loss'"):
        TransformersCallback(penalty)


def used_callback(model):
    penalty = sa.ActivationPenalty(model, SPEC, mode="inject")
    return TransformersCallback(penalty, sa.SparsityMeter(model, nn.Tanh))


class TestAgain:
    """One callback in several trainings."""

    def test_a_second_training_starts_its_schedule_again(self, tmp_path):
        model = Model()
        used = used_callback(model)
        trainer = build_trainer(model, tmp_path, logging_steps=1)
        for _ in range(2):
            used.attach(trainer)  # again, which changes nothing
            expected = train_by_hand(model)
            trainer.train()
            assert_equal_weights(model, expected)
            assert "sparsity/net.1/density" in trainer.state.log_history[0]

    def test_folds_with_a_trainer_each(self, tmp_path):
        model = Model()
        used = used_callback(model)
        trainers = [build_trainer(model, tmp_path / str(i), logging_steps=1) for i in range(3)]
        for trainer in trainers:
            expected = train_by_hand(model)
            used.attach(trainer).train()
            assert_equal_weights(model, expected)
            assert "penalty/value" in trainer.state.log_history[0]
        with pytest.raises(RuntimeError, match="to return to an earlier trainer, attach it again"):
            trainers[0].train()

    def test_after_a_training_that_failed(self, tmp_path):
        model = Model()
        used = used_callback(model)
        trainer = used.attach(build_trainer(model, tmp_path))
        failing = model.net[2].register_forward_hook(lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.train()
        failing.remove()
        expected = train_by_hand(model)
        trainer.train()
        assert_equal_weights(model, expected)

    def test_steps_end_before_the_first_log(self, tmp_path):
        model = Model()
        trainer = used_callback(model).attach(build_trainer(model, tmp_path, max_steps=1))
        for _ in range(2):
            trainer.train()

    def test_an_evaluation_just_before_a_log(self, tmp_path):
        class Evaluate(transformers.TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                trainer.evaluate()

        model = Model()
        trainer = used_callback(model).attach(build_trainer(model, tmp_path, logging_steps=1))
        trainer.add_callback(Evaluate())
        trainer.train()

    def test_another_model_is_refused(self, tmp_path):
        trainer = used_callback(Model()).attach(build_trainer(Model(), tmp_path))
        with pytest.raises(ValueError, match="ActivationPenalty of this callback was built for an"):
            trainer.train()
