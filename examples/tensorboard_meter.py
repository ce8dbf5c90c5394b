"""Log the density of a network's activations to TensorBoard while it trains.

The coefficient of an L1 penalty rises over 200 steps, and the activations become sparse.
``tensorboard --logdir FOLDER`` shows the log; the picture has the same curves.

python examples/tensorboard_meter.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import sparsact as sa

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
model.append(nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(sa.LinearWarmup(1e-2, steps=200))})
meter = sa.SparsityMeter(model, nn.ReLU)

densities = {name: [] for name in ("1", "3")}
with SummaryWriter(str(folder / "log")) as writer:
    for step in range(400):
        batch = torch.randint(len(x), (100,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        (loss + penalty()).backward()
        optimizer.step()
        penalty.step()
        writer.add_scalar("loss", loss.item(), step)
        if step % 20 == 19:
            sa.integrations.write_tensorboard(writer, meter, step)
            for name, stats in meter.compute().items():
                densities[name].append(stats.density)
            meter.reset()
    print(f"logged to {writer.log_dir}; cross entropy at the end: {loss.item():.3f}")

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.add_subplot()
for name, curve in densities.items():
    axes.plot(range(19, 400, 20), curve, "o-", label=f"layer {name}")
axes.set_xlabel("step")
axes.set_ylabel("density")
axes.set_title("digits: the penalty grows, the activations become sparse", loc="left")
axes.legend(frameon=False)
axes.grid(alpha=0.25)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(folder / "tensorboard_meter.png", dpi=120)
print(f"picture: {folder / 'tensorboard_meter.png'}")
