"""Remove units that a group lasso has made zero, with equal outputs.

The group lasso on the rows of a weight sets all weights of a unit to zero at once.
`prune_zero_units` then removes these units, so that the network is smaller and computes the same.

python examples/prune_units.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import sparsact as sa

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
train, test = torch.randperm(len(x)).split([1400, 397])

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
model.append(nn.Linear(256, 10))
optimizer = sa.optim.Proximal(
    torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    model,
    {"[02].weight": sa.GroupLasso(4e-4, dim=1)},  # a row: the weights that lead to one unit
)
for _ in range(40):
    for batch in train[torch.randperm(len(train))].split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def accuracy() -> float:
    with torch.no_grad():
        return float((model(x[test]).argmax(1) == y[test]).float().mean())


before = accuracy()
norms = {f"layer {name}": model[name].weight.detach().norm(dim=1) for name in (0, 2)}
report = sa.prune_zero_units(model, x[:8])
print(f"units removed: {report.removed}, kept though zero: {report.kept}")
print(f"parameters: {report.parameters_before} -> {report.parameters_after}")
print(f"FLOPs for 8 images: {report.flops_before} -> {report.flops_after}")
print(f"test accuracy: {before:.4f} -> {accuracy():.4f}")

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.add_subplot()
for layer, norm in norms.items():
    axes.plot(norm.sort(descending=True).values, label=f"{layer}: {int((norm == 0).sum())} zero")
axes.set_xlabel("units, sorted")
axes.set_ylabel("norm of the weights of a unit")
axes.set_title("digits: a group lasso makes units exactly zero", loc="left")
axes.legend(frameon=False)
axes.grid(alpha=0.25)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(folder / "prune_units.png", dpi=120)
print(f"picture: {folder / 'prune_units.png'}")
