"""A small ResNet on digits: units made zero and removed, by this library and by Torch-Pruning.

    python benchmarks/pruning_peers.py

All sides train for the same number of epochs on the same batches: dense, then with their group
penalty, then, after pruning, without it. Ours penalises the coupled groups by a prox, so that
pruning removes units that are exactly zero and the outputs stay equal. ``GroupNormPruner`` of
Torch-Pruning adds its penalty to the gradients and removes the units of the smallest norms, which
are not zero, until the model has at most as many FLOPs as ours. The digits come with scikit-learn.

Torch-Pruning runs where it is installed: ``make bench-peers`` makes an environment with it, or

    python -m venv peers && peers/bin/pip install -e . -r benchmarks/peers/requirements.txt
"""

import copy
import importlib.util
from collections.abc import Callable
from statistics import mean
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import sparsact as sa
from harness import Run, main

COEFFICIENT = 2e-3
LR = 0.05


class Block(nn.Module):
    """Two convolutions, added to the stream."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.short(x))


class ResNet(nn.Module):
    """A stem, four blocks and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1),
            Block(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Digits:
    """The digits of scikit-learn, split at random."""

    def __init__(self, seed: int) -> None:
        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16
        y = torch.from_numpy(labels)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        self.train, self.test = ((x[part], y[part]) for part in order.split([1200, 597]))

    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            right = (model(self.test[0]).argmax(1) == self.test[1]).float().mean()
        return 100 * float(right)

    def fit(
        self,
        model: nn.Module,
        optimizer: Any,
        epochs: int,
        after_backward: Callable[[], object] = lambda: None,
        before_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        """Train, with the learning rate going down to 0."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        x, y = self.train
        for _ in range(epochs):
            model.train()
            before_epoch()
            for batch in torch.randperm(len(x)).split(60):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                after_backward()
                optimizer.step()
            schedule.step()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)


def flops(model: nn.Module) -> int:
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 8, 8))
    return int(counter.get_total_flops())


def ours(model: nn.Module, data: Digits, epochs: int, coefficient: float) -> dict[str, float]:
    """Train with the prox of the group lasso on coupled groups, and remove the zero units."""
    example = data.train[0][:2]
    groups = sa.penalties.coupled_groups(model, example)
    optimizer = sa.optim.Proximal(sgd(model), model, {groups: sa.GroupLasso(coefficient)})
    data.fit(model, optimizer, epochs)
    before = model.eval()(data.test[0])
    sa.prune_zero_units(model, example)
    error = float((model(data.test[0]) - before).detach().abs().max())
    return {"largest change by pruning": error, "accuracy after pruning": data.accuracy(model)}


def torch_pruning(model: nn.Module, data: Digits, epochs: int, most_flops: int) -> dict[str, float]:
    """Train with the penalty of `GroupNormPruner`, and remove units until `most_flops`."""
    import torch_pruning as tp

    example = data.train[0][:2]
    pruner = tp.pruner.GroupNormPruner(
        model,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.95,
        iterative_steps=200,
        global_pruning=True,
        ignored_layers=[model.head],
    )
    data.fit(
        model,
        sgd(model),
        epochs,
        after_backward=lambda: pruner.regularize(model),
        before_epoch=pruner.update_regularizer,
    )
    before = model.eval()(data.test[0])
    while flops(model) > most_flops:
        pruner.step()
    error = float((model(data.test[0]) - before).detach().abs().max())
    return {"largest change by pruning": error, "accuracy after pruning": data.accuracy(model)}


def digits(run: Run, coefficient: float = COEFFICIENT) -> None:
    """Compare accuracies at equal FLOPs, as means over seeds."""
    width, seeds = run.size((16, 2), (4, 1))
    dense_epochs, sparse_epochs, last_epochs = run.size((8, 12, 5), (1, 1, 1))
    rows: list[dict[str, dict[str, float]]] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        data, model = Digits(seed), ResNet(width)
        data.fit(model, sgd(model), dense_epochs)
        sides: dict[str, dict[str, float]] = {"dense": {}}
        models = {"dense": copy.deepcopy(model), "ours": copy.deepcopy(model)}
        data.fit(models["dense"], sgd(models["dense"]), sparse_epochs)
        sides["ours"] = ours(models["ours"], data, sparse_epochs, coefficient)
        if importlib.util.find_spec("torch_pruning") is not None:
            models["torch-pruning"] = copy.deepcopy(model)
            sides["torch-pruning"] = torch_pruning(
                models["torch-pruning"], data, sparse_epochs, flops(models["ours"])
            )
        for name, side in models.items():
            data.fit(side, sgd(side), last_epochs)
            sides[name] |= {"accuracy": data.accuracy(side), "FLOPs": flops(side)}
        rows.append(sides)
    results = {
        name: {key: mean(row[name][key] for row in rows) for key in rows[0][name]}
        for name in rows[0]
    }
    for side in results.values():
        side["share of FLOPs"] = side["FLOPs"] / results["dense"]["FLOPs"]
    run.write("pruning_peers", {"seeds": seeds, "coefficient": coefficient, **results})


if __name__ == "__main__":
    main(__doc__, {"digits": digits})
