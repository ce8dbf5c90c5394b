"""Fill in missing pixels with sparse codes: a dictionary learned on digits explains what is left.

The dictionary is learned on complete images. Of each new image 60% of the pixels are missing. Its
code explains the pixels that are there, with the rows of the dictionary cut to them; the full atoms
then give the missing pixels. Filling in the mean of the training images is the comparison.

python examples/inpaint_digits.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor

import sparsact as sa
from sparsact.coding import fit_dictionary, solve_sparse_code

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small
torch.manual_seed(0)

images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
order = torch.randperm(len(images))
train, test = images[order[:600]], images[order[600:640]]
mean = train.mean(0)
atoms = fit_dictionary(train - mean, 128, sa.L1(0.1), epochs=8).atoms
seen = torch.rand(test.shape) > 0.6


def filled(image: Tensor, there: Tensor, strength: float) -> Tensor:
    """The image with its missing pixels from the code of those that are there."""
    code = solve_sparse_code((image - mean)[there][None], atoms[:, there], sa.L1(strength))
    return torch.where(there, image, mean + (code.codes @ atoms)[0])


def error(result: Tensor) -> float:
    """The root mean square error of the missing pixels."""
    return (result - test)[~seen].square().mean().sqrt().item()


print(f"mean of the training images: error {error(torch.where(seen, test, mean)):.3f}")
results = {}
for strength in (0.3, 0.1, 0.03, 0.01):
    rows = zip(test, seen, strict=True)
    results[strength] = torch.stack([filled(image, there, strength) for image, there in rows])
    print(f"sparse code, λ = {strength:<4}:      error {error(results[strength]):.3f}")
best = min(results, key=lambda strength: error(results[strength]))

figure = Figure(figsize=(10, 4), layout="constrained")
rows = {"original": test, "seen": test * seen, f"filled in, λ = {best}": results[best]}
for row, (title, pictures) in enumerate(rows.items()):
    for column in range(10):
        axes = figure.add_subplot(3, 10, 10 * row + column + 1)
        axes.imshow(pictures[column].reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        if column == 0:
            axes.set_title(title, loc="left", fontsize=10)
figure.savefig(folder / "inpaint_digits.png", dpi=100)
print(f"picture: {folder / 'inpaint_digits.png'}")
