"""Train a small residual shrinkage network, which computes its thresholds from the features.

Each block shrinks every channel by a share, in (0, 1), of the channel's mean magnitude. A small
network computes the share from the mean magnitudes of all channels. The data are digits with noise
whose strength differs from image to image. Do the thresholds follow the noise, and do they help?
The same network without shrinkage is trained for comparison. Each curve is the mean of three seeds
with their range; a difference within the range may be chance.

Source: Zhao et al., "Deep residual shrinkage networks for fault diagnosis", IEEE TII 16 (2020).

python examples/shrinkage_network.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

import sparsact.functional as SF

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small
WIDTH, EPOCHS, STRONGEST, SEEDS = 16, 8, 0.6, 3


class ShrinkageBlock(nn.Module):
    """``x + S_λ(f(x))`` with ``λ_c = share_c · mean|f(x)_c|``, or without the shrinkage."""

    def __init__(self, channels: int, shrinks: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.share = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.Sigmoid(),
        )
        self.shrinks = shrinks

    def thresholds(self, features: Tensor) -> Tensor:
        """λ of each channel of each image."""
        magnitude = features.abs().mean((2, 3))
        return self.share(magnitude) * magnitude

    def forward(self, x: Tensor) -> Tensor:
        """Add the shrunk features."""
        features = self.body(x)
        if self.shrinks:
            features = SF.softshrink(features, self.thresholds(features)[..., None, None])
        return x + features


def network(shrinks: bool, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    blocks = [ShrinkageBlock(WIDTH, shrinks) for _ in range(2)]
    head = [nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, padding=1), *blocks, *head, nn.Linear(4 * WIDTH, 10)
    )


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    strength = STRONGEST * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1300], order[1300:]


def fit(model: nn.Sequential, seed: int) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train), generator=generator)].split(65):
            optimizer.zero_grad()
            scores = model(noisy(images[batch], generator))
            nn.functional.cross_entropy(scores, labels[batch]).backward()
            optimizer.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Sequential, strength: float) -> float:
    noise = torch.randn(images[test].shape, generator=torch.Generator().manual_seed(2))
    return (model(images[test] + strength * noise).argmax(1) == labels[test]).float().mean().item()


strengths = [0.0, 0.15, 0.3, 0.45, 0.6]
figure = Figure(figsize=(11, 4), layout="constrained")
left, right = figure.subplots(1, 2)
models = {
    name: [network(shrinks, seed) for seed in range(SEEDS)]
    for name, shrinks in (("residual", False), ("residual shrinkage", True))
}
for name, runs in models.items():
    for seed, model in enumerate(runs):
        fit(model, seed)
    scores = torch.tensor([[accuracy(model, strength) for strength in strengths] for model in runs])
    mean, low, high = scores.mean(0), scores.amin(0), scores.amax(0)
    texts = [
        f"σ={s}: {m:.3f} ({a:.3f} to {b:.3f})"
        for s, m, a, b in zip(strengths, mean, low, high, strict=True)
    ]
    print(f"{name:20}", "  ".join(texts))
    (line,) = left.plot(strengths, mean, "o-", label=name)
    left.fill_between(strengths, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
left.set_xlabel("σ of the noise (pixels are 0 to 1)")
left.set_ylabel("test accuracy")
left.legend(frameon=False)

shrinking = models["residual shrinkage"][0]
block = shrinking[1]
with torch.no_grad():
    for strength in strengths:
        noise = torch.randn(images[test].shape, generator=torch.Generator().manual_seed(3))
        features = block.body(shrinking[0](images[test] + strength * noise))
        lambd = block.thresholds(features)
        zeros = (features.abs() <= lambd[..., None, None]).float().mean().item()
        print(f"σ={strength}: mean threshold {lambd.mean():.3f}, {zeros:.0%} of the features are 0")
        right.bar(strength, lambd.mean().item(), width=0.08, color="#2b6cb0")
right.set_xlabel("σ of the noise")
right.set_ylabel("mean threshold of the first block")
figure.savefig(folder / "shrinkage_network.png", dpi=120)
print(f"picture: {folder / 'shrinkage_network.png'}")
