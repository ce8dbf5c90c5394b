"""Train a small sparse autoencoder on images: 784 → 256 → hardshrink → 64 → 784.

The images are scikit-learn's digits, enlarged to 28×28. A hard threshold makes the 256 features
sparse, and an L1 penalty on them makes them sparser. The picture shows images and reconstructions
for three strengths of the penalty.

python examples/sparse_autoencoder.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import sparsact as sa


def images() -> torch.Tensor:
    small = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    large = nn.functional.interpolate(small, size=(28, 28), mode="bilinear")
    return large.flatten(1)[torch.randperm(len(large))]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, 256),
        sa.nn.Hardshrink(0.1),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 784),
        nn.Sigmoid(),
    )


def train(model: nn.Module, data: torch.Tensor, coefficient: float, epochs: int = 20) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with sa.ActivationPenalty(model, {sa.nn.Hardshrink: sa.L1(coefficient)}) as penalty:
        for _ in range(epochs):
            for batch in data[torch.randperm(len(data))].split(64):
                loss = nn.functional.mse_loss(model(batch), batch) + penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


@torch.no_grad()
def measure(model: nn.Module, data: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    with sa.SparsityMeter(model, sa.nn.Hardshrink) as meter:
        rebuilt = model(data)
        (stats,) = meter.compute().values()
    fvu = (data - rebuilt).square().sum() / (data - data.mean(0)).square().sum()
    return stats.l0, fvu.item(), rebuilt


def draw(rows: dict[str, torch.Tensor], file: Path) -> None:
    figure = Figure(figsize=(10, 1.25 * len(rows)), layout="tight")
    axes = figure.subplots(len(rows), 1)
    for axis, (title, pictures) in zip(axes, rows.items(), strict=True):
        strip = pictures[:10].view(10, 28, 28).transpose(0, 1).reshape(28, 280)
        axis.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_axis_off()
    figure.savefig(file, dpi=110)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = images()
    held_out, training = data[:300], data[300:]
    rows = {"held-out images": held_out}
    for coefficient in (0.0, 3e-5, 2e-4):
        model = network()
        train(model, training, coefficient)
        l0, fvu, rebuilt = measure(model, held_out)
        name = f"L1 {coefficient:g}: {l0:.0f} of 256 features, {100 * fvu:.1f}% unexplained"
        print(name)
        rows[name] = rebuilt
    file = folder / "sparse_autoencoder.png"
    draw(rows, file)
    print(f"picture: {file}")


if __name__ == "__main__":
    main()
