"""What a page of the documentation presupposes, in small: models, texts and files."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import sparsact as sa
from tiny_language import TEXT, llama, save_model

PEERS = Path(__file__).parent / "sae" / "peers"


def language_model() -> dict[str, Any]:
    """A tiny Llama with its tokenizer, batches of tokens, and a plan in plan/."""
    folder = save_model(Path("llama"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    batches = [{"input_ids": torch.randint(4, len(TEXT), (2, 16))} for _ in range(4)]
    sa.calibrate(model, batches, sparsity=0.5).save("plan")
    return {"model": model, "tokenizer": tokenizer, "batches": batches, "inputs": batches[0]}


def other_libraries() -> dict[str, Any]:
    """A small autoencoder, and files of SAELens and sparsify in theirs/."""
    copytree(PEERS / "saelens_topk", "theirs")
    copytree(PEERS / "sparsify_topk", "theirs/layers.15")
    return {"sae": sa.SparseAutoencoder(sa.SAEConfig(d_in=8, d_sae=32, activation="topk", k=4))}


def model_and_autoencoder() -> dict[str, Any]:
    """A tiny Llama, and an autoencoder of the width of its layers."""
    sae = sa.SparseAutoencoder(sa.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    return {"model": llama(), "sae": sae}


STAND_INS: dict[str, Callable[[], dict[str, Any]]] = {
    "attaching.md": model_and_autoencoder,
    "interchange.md": other_libraries,
    "language_models.md": language_model,
}
"""For each page that shows the use of something large, what it uses."""
