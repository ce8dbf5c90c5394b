"""Draw every threshold function, and print the density that it leaves.

Each panel shows the output against the input for λ = 1; the dead band is shaded. The density is
that of normally distributed inputs.

python examples/threshold_shapes.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure

import sparsact.functional as SF

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)

LAMBD = 1.0
FUNCTIONS = {
    "softshrink": lambda x: SF.softshrink(x, LAMBD),
    "hardshrink": lambda x: SF.hardshrink(x, LAMBD),
    "firmshrink": lambda x: SF.firmshrink(x, LAMBD, 2 * LAMBD),
    "scad": lambda x: SF.scad(x, LAMBD),
    "garrote": lambda x: SF.garrote(x, LAMBD),
    "halfshrink": lambda x: SF.halfshrink(x, LAMBD),
    "jumprelu": lambda x: SF.jumprelu(x, LAMBD),
    "sigmoid_gate": lambda x: SF.sigmoid_gate(x, LAMBD),
    "softplus": SF.softplus,
    "clip": lambda x: SF.clip(x, LAMBD),
}

x = torch.linspace(-4, 4, 1601)
normal = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
figure = Figure(figsize=(11, 4.8), layout="constrained")
panels = figure.subplots(2, 5, sharex=True, sharey=True)
for axes, (name, function) in zip(panels.flat, FUNCTIONS.items(), strict=True):
    y = function(x)
    zeros = x[y == 0]
    if len(zeros) > 1:
        axes.axvspan(zeros.min().item(), zeros.max().item(), color="#cbd2d9", linewidth=0)
    axes.plot(x, x, color="#9aa5b1", linestyle=":", linewidth=1)
    jumps = torch.cat([(y[1:] - y[:-1]).abs() > 0.1, torch.tensor([False])])
    axes.plot(x, torch.where(jumps, torch.nan, y), color="#2b6cb0")
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_ylim(-4, 4)
    axes.spines[["top", "right"]].set_visible(False)
    density = (function(normal) != 0).float().mean().item()
    print(f"{name:13} density {density:.0%}")
figure.savefig(folder / "threshold_shapes.png", dpi=120)
print(f"picture: {folder / 'threshold_shapes.png'}")
