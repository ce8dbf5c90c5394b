"""Reads each autoencoder in a directory with SAELens, and writes what it computes."""

import sys
from pathlib import Path

import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file


@torch.no_grad()
def main(folder: Path) -> None:
    x = load_file(folder / "x.safetensors")["x"]
    for path in folder.iterdir():
        if path.is_dir():
            sae = SAE.load_from_disk(path)
            latents = sae.encode(x)
            found = {"latents": latents, "rebuilt": sae(x)}
            save_file(found, path / "found.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
