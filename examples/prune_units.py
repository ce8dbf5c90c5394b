"""Group lasso on the hidden units of a network for digits; then the zero ones are removed."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import sparsact as sa

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
report = sa.prune_zero_units(model, x[:8])
print(f"units removed: {report.removed}, kept though zero: {report.kept}")
print(f"parameters: {report.parameters_before} -> {report.parameters_after}")
print(f"FLOPs for 8 images: {report.flops_before} -> {report.flops_after}")
print(f"test accuracy: {before:.4f} -> {accuracy():.4f}")
