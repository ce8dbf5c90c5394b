"""Modules in the manner of Lightning, and what their optimizers make."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau

import sparsact as sa
from sparsact.compare.problems.lightning_module import methods_not_called, own_updates
from sparsact.compare.problems.updates import updates_of
from sparsact.compare.training import engine

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 4, generator=GENERATOR)
Y = (X[:, 0] > 0).long()


@pytest.fixture(autouse=True)
def no_step_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})


class Net(nn.Module):
    """A network with a training step; subclasses say how it is updated."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])


def compare(build: Any, **options: Any) -> Any:
    options = {"activations": "relu", "epochs": 3, "seeds": 1, "batch_size": 10, **options}
    return sa.compare_activations(build, (X, Y), (X, Y), **options)


def weights_of(result: Any) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in result.best.parameters()])


def trained_by_hand(make: Any, per: str) -> Tensor:
    """The weights after plain loops of torch with the same batches."""
    torch.manual_seed(0)
    model = Net()
    optimizer, scheduler = make(model)
    order = torch.Generator().manual_seed(0)
    for _ in range(3):
        for rows in torch.randperm(40, generator=order).split(10):
            optimizer.zero_grad()
            F.cross_entropy(model(X[rows]), Y[rows]).backward()
            optimizer.step()
            if per == "step" and scheduler is not None:
                scheduler.step()
        if per == "epoch" and scheduler is not None:
            scheduler.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def sgd(model: nn.Module) -> Any:
    return torch.optim.SGD(model.parameters(), lr=0.3)


FORMS: dict[str, tuple[Any, Any, str]] = {
    "an optimizer": (sgd, lambda o: (o, None), ""),
    "a list": (lambda m: [sgd(m)], lambda o: (o, None), ""),
    "two lists": (
        lambda m: ([o := sgd(m)], [ExponentialLR(o, 0.5)]),
        lambda o: (o, ExponentialLR(o, 0.5)),
        "epoch",
    ),
    "a dict": (
        lambda m: {"optimizer": (o := sgd(m)), "lr_scheduler": ExponentialLR(o, 0.5)},
        lambda o: (o, ExponentialLR(o, 0.5)),
        "epoch",
    ),
    "a dict with a schedule per step": (
        lambda m: {
            "optimizer": (o := sgd(m)),
            "lr_scheduler": {"scheduler": ExponentialLR(o, 0.9), "interval": "step"},
        },
        lambda o: (o, ExponentialLR(o, 0.9)),
        "step",
    ),
    "a list of a dict": (
        lambda m: [{"optimizer": (o := sgd(m)), "lr_scheduler": ExponentialLR(o, 0.5)}],
        lambda o: (o, ExponentialLR(o, 0.5)),
        "epoch",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_configure_optimizers_makes_is_used(form: str) -> None:
    make, by_hand, per = FORMS[form]

    class Own(Net):
        def configure_optimizers(self) -> Any:
            return make(self)

    result = compare(Own)
    expected = trained_by_hand(lambda model: by_hand(sgd(model)), per)
    assert torch.equal(weights_of(result), expected)
    remark = "the optimizer is that of configure_optimizers; lr= and optimizer= do not apply"
    assert result.report.notes[0] == remark
    assert f"note: {remark}"[:70] in str(result)


def test_the_optimizer_argument_may_have_schedulers_too() -> None:
    def make(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.3)
        return [optimizer], [ExponentialLR(optimizer, 0.5)]

    expected = trained_by_hand(lambda m: ((o := sgd(m)), ExponentialLR(o, 0.5)), "epoch")
    assert torch.equal(weights_of(compare(Net, optimizer=make)), expected)


def test_a_plateau_sees_the_score_of_each_epoch() -> None:
    updates = updates_of(
        {"optimizer": (o := sgd(Net())), "lr_scheduler": ReduceLROnPlateau(o, patience=0)}
    )
    for score in (0.1, 0.2, 0.2, 0.3):
        updates.end_epoch(score, 1.0)
    assert updates.optimizer.param_groups[0]["lr"] == pytest.approx(0.03)  # after the third
    losses = updates_of(
        {"optimizer": (o := sgd(Net())), "lr_scheduler": ReduceLROnPlateau(o, patience=0)}
    )
    for score in (-0.3, -0.2, -0.2, -0.1):  # negated
        losses.end_epoch(score, 0.0)
    assert losses.optimizer.param_groups[0]["lr"] == pytest.approx(0.03)


def test_frequency_and_state_of_a_schedule() -> None:
    def make() -> Any:
        scheduled = {"scheduler": LambdaLR(o := sgd(Net()), lambda n: 2.0**-n), "frequency": 2}
        return updates_of({"optimizer": o, "lr_scheduler": scheduled})

    first, second = make(), make()
    for _ in range(3):
        first.step()
        first.end_epoch(0.0, 1.0)
    second.go_on_from(first)
    second.step()
    second.end_epoch(0.0, 1.0)
    assert first.optimizer.param_groups[0]["lr"] == pytest.approx(0.15)
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.075)


def raising() -> Any:
    raise RuntimeError("there is no Trainer\nat all")


NOT_USED: dict[str, tuple[Any, str]] = {
    "two optimizers": (
        lambda m: [sgd(m), sgd(m)],
        "it returns 2 optimizers; only one can be used",
    ),
    "nothing": (lambda m: None, "it must return an optimizer of torch, got NoneType"),
    "an error": (lambda m: raising(), "it raised RuntimeError: there is no Trainer"),
    "no scheduler": (
        lambda m: {"optimizer": sgd(m), "lr_scheduler": "cosine"},
        "it has no scheduler of torch, but str",
    ),
    "a strange interval": (
        lambda m: {
            "optimizer": (o := sgd(m)),
            "lr_scheduler": {"scheduler": ExponentialLR(o, 0.5), "interval": "hour"},
        },
        "it has a scheduler with interval='hour', frequency=1",
    ),
    "a plateau for each step": (
        lambda m: {
            "optimizer": (o := sgd(m)),
            "lr_scheduler": {"scheduler": ReduceLROnPlateau(o), "interval": "step"},
        },
        "it has a ReduceLROnPlateau for each step; there is a score for each epoch",
    ),
}


@pytest.mark.parametrize("name", NOT_USED)
def test_what_cannot_be_used_is_said_in_one_line(name: str) -> None:
    make, reason = NOT_USED[name]

    class Own(Net):
        def configure_optimizers(self) -> Any:
            return make(self)

    assert own_updates(Own()) == (None, f"configure_optimizers is not used: {reason}")
    result = compare(Own, epochs=1)
    assert result.report.notes[0] == f"configure_optimizers is not used: {reason}"
    assert torch.equal(weights_of(result), weights_of(compare(Net, epochs=1)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"optimizer": "sgd"}, "optimizer=sgd was given"),
        ({"optimizer": torch.optim.Adam}, "optimizer= was given"),
        ({"lr": "auto"}, "lr=auto searches the rate of a named one"),
    ],
)
def test_an_argument_comes_before_configure_optimizers(
    options: dict[str, Any], reason: str
) -> None:
    class Own(Net):
        def configure_optimizers(self) -> Any:
            return sgd(self)

    notes = compare(Own, epochs=1, **options).report.notes
    assert notes[0] == f"configure_optimizers is not used: {reason}"


def test_methods_that_only_a_trainer_calls_are_named() -> None:
    class Own(Net):
        def validation_step(self, batch: Any) -> None:
            raise AssertionError

        def on_train_epoch_end(self) -> None:
            raise AssertionError

    assert methods_not_called(Own()) == ("validation_step", "on_train_epoch_end")
    said = "a comparison does not call these methods of the model: "
    notes = compare(Own, epochs=1).report.notes
    assert notes[0] == said + "validation_step, on_train_epoch_end"
    notes = compare(Own, epochs=1, loss=F.cross_entropy).report.notes
    assert notes[0] == said + "training_step, validation_step, on_train_epoch_end"
    assert methods_not_called(nn.Linear(1, 1)) == ()


def test_a_module_that_updates_itself_is_refused() -> None:
    class Own(Net):
        automatic_optimization = False

    with pytest.raises(ValueError, match="automatic_optimization=False"):
        compare(Own)


def test_a_frontier_goes_on_with_the_schedule() -> None:
    class Own(Net):
        def configure_optimizers(self) -> Any:
            optimizer = sgd(self)
            return [optimizer], [ExponentialLR(optimizer, 0.5)]

    result = compare(Own, activations="topk", frontier=3, epochs=4)
    assert result.table["annealed"].iloc[:3].tolist() == [1, 2, 3]


def test_lightning_itself() -> None:
    lightning = pytest.importorskip("lightning")

    class Own(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net().net

        forward, training_step = Net.forward, Net.training_step

        def configure_optimizers(self) -> Any:
            return {"optimizer": (o := sgd(self)), "lr_scheduler": ExponentialLR(o, 0.5)}

    expected = trained_by_hand(lambda m: ((o := sgd(m)), ExponentialLR(o, 0.5)), "epoch")
    assert torch.equal(weights_of(compare(Own)), expected)
    assert methods_not_called(Own()) == ()
