"""A small ResNet on digits: units made zero and removed, by this library and by Torch-Pruning.

    python benchmarks/pruning_peers.py

All sides start from the same dense network and train for the same epochs on the same schedule:
with their group penalty, then, after pruning, without it at a small learning rate. Ours penalises
the coupled groups by a prox. ``GroupNormPruner`` of Torch-Pruning adds its penalty to the
gradients. Both then lose the units of the smallest norms until at most a share of the dense FLOPs
is left; Torch-Pruning until it has at most as many as ours. A validation split chooses the
coefficient of each side, for each share, by the accuracy after fine-tuning. The test split is read
once, for the chosen ones. The digits come with scikit-learn.

Torch-Pruning runs where it is installed: ``make bench-peers`` makes an environment with it, or

    python -m venv peers && peers/bin/pip install -e . -r benchmarks/peers/requirements.txt
"""

import copy
import importlib.util
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import sparsact as sa
from harness import Run, main

LR, LAST_LR = 0.05, 0.005
SHARES = (0.5, 0.25)
GRIDS = {
    "ours": (2.5e-4, 5e-4, 1e-3, 1.4e-3, 2e-3),
    "torch-pruning": (1e-4, 1e-3, 5e-3, 1e-2, 5e-2),
}
"""The coefficients: of our penalty, and ``reg`` of `GroupNormPruner`."""

Split = tuple[Tensor, Tensor]


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
    """The digits of scikit-learn, split at random into training, validation and test."""

    def __init__(self, seed: int) -> None:
        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16
        y = torch.from_numpy(labels)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        parts = order.split([960, 240, 597])
        self.train, self.validation, self.test = ((x[part], y[part]) for part in parts)

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


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the percentage of right answers."""
    model.eval()
    with torch.no_grad():
        return 100 * float((model(split[0]).argmax(1) == split[1]).float().mean())


def sgd(model: nn.Module, lr: float = LR) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)


def flops(model: nn.Module) -> int:
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 8, 8))
    return int(counter.get_total_flops())


class Ours:
    """Train with the prox of the group lasso on coupled groups, and remove the zero units."""

    def __init__(self, model: nn.Module, data: Digits, epochs: int, coefficient: float) -> None:
        self.model, self.example = copy.deepcopy(model), data.train[0][:2]
        self.groups = sa.penalties.coupled_groups(model, self.example)
        penalty = {self.groups: sa.GroupLasso(coefficient)}
        data.fit(self.model, sa.optim.Proximal(sgd(self.model), self.model, penalty), epochs)

    def prune(self, most_flops: int) -> nn.Module:
        """Set as few of the smallest groups to zero as it takes, and remove the zero units."""
        low, high = 0, len(self.groups)
        while low < high:
            count = (low + high) // 2
            if flops(self._without(count)) <= most_flops:
                high = count
            else:
                low = count + 1
        return self._without(low)

    @torch.no_grad()
    def _without(self, count: int) -> nn.Module:
        model = copy.deepcopy(self.model)
        parameters = dict(model.named_parameters())
        norms = [rows.square().mean(1).sqrt() for rows in self.groups.matrices(parameters)]
        bound = torch.cat(norms).sort().values[count - 1] if count else -1.0
        for slices, norm in zip(self.groups.slices, norms, strict=True):
            for (name, dim), indices in slices.items():
                parameters[name].movedim(dim, 0)[indices[norm <= bound].flatten()] = 0
        sa.prune_zero_units(model, self.example)
        return model


class TorchPruning:
    """Train with the penalty of `GroupNormPruner`, and remove the units of the smallest norms."""

    def __init__(self, model: nn.Module, data: Digits, epochs: int, coefficient: float) -> None:
        self.model, self.example = copy.deepcopy(model), data.train[0][:2]
        self.coefficient = coefficient
        pruner = self._pruner(self.model)
        data.fit(
            self.model,
            sgd(self.model),
            epochs,
            after_backward=lambda: pruner.regularize(self.model),
            before_epoch=pruner.update_regularizer,
        )

    def _pruner(self, model: nn.Module) -> Any:
        import torch_pruning as tp

        return tp.pruner.GroupNormPruner(
            model,
            self.example,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            reg=self.coefficient,
            pruning_ratio=0.95,
            iterative_steps=100,
            global_pruning=True,
            ignored_layers=[model.head],
        )

    def prune(self, most_flops: int) -> nn.Module:
        """Remove units until the model has few enough FLOPs."""
        model = copy.deepcopy(self.model)
        pruner = self._pruner(model)
        while flops(model) > most_flops:
            pruner.step()
        return model


def tuned(model: nn.Module, data: Digits, epochs: int) -> nn.Module:
    """Return a copy, trained on at a small learning rate."""
    model = copy.deepcopy(model)
    data.fit(model, sgd(model, LAST_LR), epochs)
    return model


def best(
    sides: Mapping[float, Ours | TorchPruning], data: Digits, most: int, epochs: int
) -> dict[str, float]:
    """Prune and fine-tune for each coefficient; report the one that validates best."""
    candidates = []
    for coefficient, side in sides.items():
        pruned = side.prune(most)
        if flops(pruned) < 0.85 * most and coefficient != min(sides):
            continue  # the penalty alone went far below: not at equal FLOPs
        last = tuned(pruned, data, epochs)
        candidates.append((accuracy(last, data.validation), coefficient, pruned, last))
    _, coefficient, pruned, last = max(candidates, key=lambda each: each[:2])
    return {
        "coefficient": coefficient,
        "accuracy after pruning": accuracy(pruned, data.test),
        "accuracy": accuracy(last, data.test),
        "FLOPs": flops(last),
    }


def one_seed(run: Run, seed: int) -> dict[str, dict[str, float]]:
    """Train all sides from one dense network."""
    width = run.size(16, 4)
    dense_epochs, sparse_epochs, last_epochs = run.size((8, 16, 8), (1, 1, 1))
    torch.manual_seed(seed)
    data, model = Digits(seed), ResNet(width)
    data.fit(model, sgd(model), dense_epochs)
    dense = copy.deepcopy(model)
    data.fit(dense, sgd(dense), sparse_epochs)
    dense = tuned(dense, data, last_epochs)
    rows = {"dense": {"accuracy": accuracy(dense, data.test), "FLOPs": flops(dense)}}
    grids = {name: run.size(grid, grid[:1]) for name, grid in GRIDS.items()}
    ours = {c: Ours(model, data, sparse_epochs, c) for c in grids["ours"]}
    has_peer = importlib.util.find_spec("torch_pruning") is not None
    peers = {
        c: TorchPruning(model, data, sparse_epochs, c)
        for c in (grids["torch-pruning"] if has_peer else ())
    }
    for share in SHARES:
        most = int(share * flops(dense))
        rows[f"ours at {share:.0%}"] = best(ours, data, most, last_epochs)
        if peers:
            most = int(rows[f"ours at {share:.0%}"]["FLOPs"])
            rows[f"torch-pruning at {share:.0%}"] = best(peers, data, most, last_epochs)
    return rows


def digits(run: Run) -> None:
    """Compare accuracies at equal FLOPs, as means over seeds."""
    seeds = run.size(3, 1)
    rows = [one_seed(run, seed) for seed in range(seeds)]
    results: dict[str, dict[str, Any]] = {
        name: {key: mean(row[name][key] for row in rows) for key in rows[0][name]}
        for name in rows[0]
    }
    for name, side in results.items():
        side["share of FLOPs"] = side["FLOPs"] / results["dense"]["FLOPs"]
        side["accuracy of each seed"] = [row[name]["accuracy"] for row in rows]
        if name != "dense":
            side["coefficient"] = [row[name]["coefficient"] for row in rows]
    run.write("pruning_peers", {"seeds": seeds, "grids": GRIDS, **results})


if __name__ == "__main__":
    main(__doc__, {"digits": digits})
