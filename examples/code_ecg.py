"""Describe an ECG by a few shifted atoms: the beats become the peaks of a sparse code.

Four atoms of 80 samples (0.22 s) are learned from the signal itself. Codes for the atoms that there
are, and a few gradient steps on the atoms for these codes, take turns. As a comparison, as many of
the largest wavelet coefficients are kept as the code has entries.

python examples/code_ecg.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pywt
import torch
from matplotlib.figure import Figure
from torch import Tensor

import sparsact as sa
from sparsact.coding import ConvDictionary, sparse_code

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small
torch.manual_seed(0)

ATOMS, SIZE, STRENGTH = 4, 80, 0.7
signal = torch.tensor(pywt.data.ecg(), dtype=torch.float32)
signal = (signal - signal.mean()) / signal.std()
x = torch.nn.functional.pad(signal, (SIZE, SIZE))[None, None]
starts = torch.randint(0, len(signal) - SIZE, (ATOMS,))
dictionary = ConvDictionary(torch.stack([signal[i : i + SIZE] for i in starts])[:, None])


@torch.no_grad()
def normalise(atoms: Tensor) -> None:
    """Give every atom the norm 1, so that no code becomes small for free."""
    atoms /= atoms.flatten(1).norm(dim=1)[:, None, None]


normalise(dictionary.atoms)
optimizer = torch.optim.Adam(dictionary.parameters(), lr=0.01)
codes = torch.zeros_like(dictionary.adjoint(x)).detach()
for _ in range(60):
    with torch.no_grad():
        codes = sparse_code(x, dictionary, sa.L1(STRENGTH), start=codes, steps=1000, tol=2e-3)
    for _ in range(10):
        optimizer.zero_grad()
        (dictionary(codes) - x).square().sum().backward()
        optimizer.step()
    normalise(dictionary.atoms)
with torch.no_grad():
    codes = sparse_code(x, dictionary, sa.L1(STRENGTH), start=codes, steps=5000, tol=1e-4)
    chosen = codes.flatten().nonzero()[:, 0]
    shifted = dictionary(torch.eye(codes.numel())[chosen].reshape(-1, *codes.shape[1:]))[:, 0]
    # L1 makes entries small: the least squares of the chosen ones makes up for it
    codes.flatten()[chosen] = torch.linalg.lstsq(shifted.T, x[0, 0, :, None]).solution[:, 0]
    described = dictionary(codes)[0, 0, SIZE:-SIZE]

count = len(chosen)
array, places = pywt.coeffs_to_array(pywt.wavedec(signal.numpy(), "db4", mode="periodization"))
array[np.abs(array) < np.sort(np.abs(array))[-count]] = 0
kept = pywt.array_to_coeffs(array, places, output_format="wavedec")
wavelets = torch.tensor(pywt.waverec(kept, "db4", mode="periodization"))


def decibels(result: Tensor) -> float:
    """The energy of the signal over that of what is missing."""
    return 10 * (signal.square().sum() / (signal - result).square().sum()).log10().item()


print(f"{len(signal)} samples, {count} entries of the code, {ATOMS} atoms of {SIZE} samples")
print(f"sparse code:                    {decibels(described):.1f} dB")
print(f"{count} largest wavelet coefficients: {decibels(wavelets):.1f} dB")

figure = Figure(figsize=(10, 6), layout="constrained")
seconds = torch.arange(len(signal)) / 360
top, middle, bottom = figure.subplots(3, 1)
top.plot(seconds, signal, color="0.7", label="ECG")
top.plot(seconds, described, linewidth=1, label="described by its code")
top.legend(frameon=False, ncols=2, loc="upper right")
for atom in range(ATOMS):
    at = codes[0, atom].nonzero()[:, 0]
    place = (at.numpy() - SIZE / 2) / 360
    middle.vlines(place, 0, codes[0, atom, at], color=f"C{atom}", label=f"atom {atom + 1}")
    bottom.plot(np.arange(SIZE) / 360 + 0.3 * atom, dictionary.atoms[atom, 0].detach())
top.set_xticks([])
middle.set_xlim(top.get_xlim())
middle.set_ylabel("code")
middle.set_xlabel("seconds")
bottom.set_title("the atoms", fontsize=10)
bottom.set_axis_off()
figure.savefig(folder / "code_ecg.png", dpi=100)
print(f"picture: {folder / 'code_ecg.png'}")
