"""The sparsity of a network for digits, step by step, in TensorBoard.

Run it with a folder for the logs, then ``tensorboard --logdir`` that folder.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import sparsact as sa

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
model.append(nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(sa.LinearWarmup(1e-2, steps=200))})
meter = sa.SparsityMeter(model, nn.ReLU)

with SummaryWriter(sys.argv[1] if len(sys.argv) > 1 else "runs/digits") as writer:
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
            meter.reset()
    print(f"logged to {writer.log_dir}; cross entropy at the end: {loss.item():.3f}")
