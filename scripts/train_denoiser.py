"""Train the networks of `sparsact.denoise_learned` on photographs from Debian packages.

    python scripts/train_denoiser.py photographs FOLDER    fetch and shrink the photographs
    python scripts/train_denoiser.py train FOLDER grey     train; about an hour on one core
    python scripts/train_denoiser.py train FOLDER colour   train; the other core can do this
    python scripts/train_denoiser.py export FOLDER         write the weights into the package

A crop is taken from a photograph at a random place (of two, the one with more contrast), turned
and mirrored at random. Its noise has a σ between 2 and 75 of 255. The loss is the squared error
over σ, so that weak and strong noise count about alike. Adam takes a fixed number of steps, with a
learning rate that rises for 200 steps and then falls to 0 along a cosine; gradients are clipped.
The published weights are the moving average of those of all steps. All random numbers follow from
`--seed` and the number of the step, so a run that is stopped and continued with `--resume` is the
same as one that is not. The atoms of CDLNet are projected onto the unit ball after each step; here
nothing is, because clipping was enough.

Four photographs are for validation alone. No image of scikit-image is used.
"""

import argparse
import copy
import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sparsact.denoise.shrinkage_network import LAYERS, ShrinkageNetwork

PACKAGES = {
    "lomiri-wallpapers-16.04=20.04.0-2": (
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace "
        "Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi "
        "free_by_Peter_Nerlich friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich "
        "life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi"
    ),
    "lomiri-wallpapers-20.04=20.04.0-2": "Kleiber_by_Lukas_Baubkus",
    "mate-backgrounds=1.26.0-1": (
        "Aqua Blinds Dune Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower"
    ),
    "plasma-workspace-wallpapers=4:5.27.5-2": (
        "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite "
        "OneStandsOut Path summer_1am"
    ),
}
VALIDATION = (
    "Wine_by_Jakkub_Mede",
    "aitzgorri_by_Aitzol_Berasategi",
    "RainDrops",
    "ColorfulCups",
)
SCALES = (1400, 800, 480)  # pixels along the longer side: less JPEG, more detail per pixel
CHANNELS = {"grey": 1, "colour": 3}
STEPS = {"grey": 10_000, "colour": 7_000}
LUMA = (0.299, 0.587, 0.114)
SIGMAS = (2 / 255, 75 / 255)
CROP, EDGE, BATCH = 80, 8, 10  # the edge of a crop has fewer atoms and is not scored
RATE, WARMUP, LARGEST_GRADIENT = 1e-3, 200, 1.0
AVERAGE = 0.999
EVERY = 250  # steps between checkpoints
WEIGHTS = Path(__file__).parents[1] / "src/sparsact/denoise/weights"
Pictures = list[NDArray[np.uint8]]


def photographs(folder: Path) -> None:
    """Write FOLDER/photographs.npz: each photograph at each scale, (H, W, 3)."""
    pictures = {}
    for package, names in PACKAGES.items():
        root = _unpacked(folder, package)
        for name in names.split():
            image = Image.open(_largest(root, name)).convert("RGB")
            for side in SCALES:
                small = image.copy()
                small.thumbnail((side, side), Image.Resampling.BOX)
                pictures[f"{name}/{side}"] = np.asarray(small)
    np.savez(folder / "photographs.npz", **pictures)
    print(f"{len(pictures) // len(SCALES)} photographs, {len(VALIDATION)} of them for validation")


def _unpacked(folder: Path, package: str) -> Path:
    name = package.partition("=")[0]
    downloads, root = folder / "packages", folder / "unpacked" / name
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob(f"{name}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=downloads, check=True)
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", next(downloads.glob(f"{name}_*.deb")), root], check=True)
    return root


def _largest(root: Path, name: str) -> Path:
    """The file of a photograph, or the largest file in the folder of its name."""
    files = [*root.rglob(f"{name}.jpg"), *root.glob(f"**/{name}/contents/images/*.jpg")]
    return max(sorted(files), key=lambda file: file.stat().st_size)


def load(folder: Path) -> tuple[Pictures, Pictures]:
    """The pictures to train on, at all scales, and the middles of those to validate on."""
    training, validation = [], []
    with np.load(folder / "photographs.npz") as file:
        for key in sorted(file):
            name, side = key.split("/")
            if name not in VALIDATION:
                training.append(file[key])
            elif side == str(SCALES[1]):
                top, left = ((size - 256) // 2 for size in file[key].shape[:2])
                validation.append(file[key][top : top + 256, left : left + 256])
    return training, validation


def as_channels(crop: NDArray[np.uint8], channels: int) -> Tensor:
    """A picture (channels, H, W) in 0 to 1, less its mean."""
    x = torch.from_numpy(crop.astype(np.float32) / 255).movedim(-1, 0)
    return x if channels == 3 else torch.tensordot(torch.tensor(LUMA), x, 1)[None]


class Batches:
    """Random crops of pictures, less the mean of their picture, which follow from the step."""

    def __init__(self, pictures: Pictures, channels: int, seed: int) -> None:
        self.pictures, self.channels, self.seed = pictures, channels, seed
        sizes = np.array([picture.shape[0] * picture.shape[1] for picture in pictures])
        self.shares = sizes / sizes.sum()
        self.means = [float(as_channels(picture, channels).mean()) for picture in pictures]

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Clean crops (BATCH, channels, CROP, CROP), their noise of σ = 1, and each σ."""
        random = np.random.default_rng((self.seed, step))
        crops = [self._crop(random) for _ in range(BATCH)]
        noise = random.standard_normal((BATCH, self.channels, CROP, CROP), np.float32)
        sigma = random.uniform(*SIGMAS, (BATCH, 1, 1, 1)).astype(np.float32)
        return torch.stack(crops), torch.from_numpy(noise), torch.from_numpy(sigma)

    def _crop(self, random: np.random.Generator) -> Tensor:
        number = random.choice(len(self.pictures), p=self.shares)
        picture = self.pictures[number]
        places = [
            [random.integers(size - CROP + 1) for size in picture.shape[:2]] for _ in range(2)
        ]
        crops = [picture[top : top + CROP, left : left + CROP] for top, left in places]
        x = as_channels(max(crops, key=np.std), self.channels) - self.means[number]
        return torch.rot90(x if random.integers(2) else x.flip(-1), random.integers(4), (-2, -1))


def rate(step: int, steps: int) -> float:
    """The learning rate of a step."""
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return RATE * min(1.0, (step + 1) / WARMUP) * cosine


@torch.no_grad()
def validate(network: ShrinkageNetwork, pictures: Pictures) -> dict[str, float]:
    """Mean PSNR in dB for three strengths of noise."""
    clean = torch.stack([as_channels(picture, network.channels) for picture in pictures])
    clean = clean - clean.mean((1, 2, 3), keepdim=True)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    inner = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    result = {}
    for level in (15, 25, 50):
        error = network(clean + level / 255 * noise, level / 255)[inner] - clean[inner]
        scores = -10 * error.square().mean((1, 2, 3)).log10()
        result[str(level)] = round(float(scores.mean()), 3)
    return result


def train(folder: Path, kind: str, seed: int, minutes: float, resume: bool) -> None:
    """Train until the steps are done or the minutes are over; write FOLDER/KIND.pt and .jsonl."""
    torch.set_num_threads(1)
    training, validation = load(folder)
    channels = CHANNELS[kind]
    batches = Batches(training, channels, seed)
    network = ShrinkageNetwork(channels, LAYERS[channels]).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters())
    first, checkpoint, start = 0, folder / f"{kind}.pt", time.monotonic()
    if resume and checkpoint.exists():
        state = torch.load(checkpoint)
        first = state["step"]
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    else:
        record(folder, kind, {"step": 0, "seed": seed, "psnr": validate(network, validation)}, "w")
    losses, norms = [], []
    for step in range(first, STEPS[kind]):
        loss, norm = update(network, optimizer, batches(step), rate(step, STEPS[kind]))
        losses.append(loss)
        norms.append(norm)
        mean_weights(average, network, min(AVERAGE, (1 + step) / (10 + step)))
        if (step + 1) % EVERY == 0:
            row = {
                "step": step + 1,
                "loss": round(float(np.mean(losses)), 6),
                "gradient": round(float(np.median(norms)), 6),
                "seconds": round(time.monotonic() - start),
                "psnr": validate(average, validation),
            }
            save(checkpoint, step + 1, network, average, optimizer)
            record(folder, kind, row, "a")
            losses, norms = [], []
            if time.monotonic() - start > 60 * minutes:
                return


def update(
    network: ShrinkageNetwork,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
    learning_rate: float,
) -> tuple[float, float]:
    """Take one step; return the loss and the norm of the gradient."""
    clean, noise, sigma = batch
    inner = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    error = (network(clean + sigma * noise, sigma) - clean)[inner]
    loss = (error.square() / sigma).mean() * 100
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return float(loss.detach()), float(norm)


@torch.no_grad()
def mean_weights(average: ShrinkageNetwork, network: ShrinkageNetwork, decay: float) -> None:
    """Move the average towards the network."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)


def save(
    path: Path,
    step: int,
    network: ShrinkageNetwork,
    average: ShrinkageNetwork,
    optimizer: torch.optim.Optimizer,
) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def record(folder: Path, kind: str, row: dict[str, object], mode: str) -> None:
    with (folder / f"{kind}.jsonl").open(mode) as log:
        log.write(json.dumps(row) + "\n")
    print(kind, row, flush=True)


def export(folder: Path) -> None:
    """Write the averages in float16, and the logs, into the package."""
    for kind in CHANNELS:
        if not (folder / f"{kind}.pt").exists():
            print(f"{kind}: no checkpoint in {folder}")
            continue
        state = torch.load(folder / f"{kind}.pt")
        half = {name: weight.half().contiguous() for name, weight in state["average"].items()}
        steps = {"steps": str(state["step"]), "of": str(STEPS[kind])}
        save_file(half, WEIGHTS / f"{kind}.safetensors", metadata=steps)
        (WEIGHTS / f"{kind}.safetensors").chmod(0o644)
        shutil.copy(folder / f"{kind}.jsonl", WEIGHTS / f"{kind}.jsonl")
        print(f"{kind}: {state['step']} of {STEPS[kind]} steps")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("photographs", "train", "export"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", nargs="?", choices=tuple(CHANNELS), default="grey")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after about so many")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    options = parser.parse_args()
    if options.action == "photographs":
        photographs(options.folder)
    elif options.action == "export":
        export(options.folder)
    else:
        train(options.folder, options.kind, options.seed, options.minutes, options.resume)


if __name__ == "__main__":
    main()
