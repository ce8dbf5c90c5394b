"""``sparsact generate``."""

import time
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from rich.console import Console

from sparsact._common.errors import InputError
from sparsact.calibration import ThresholdPlan
from sparsact.cli.tables import say
from sparsact.inference import sparsify
from sparsact.inference.generation import stream
from sparsact.text import load_language_model


@dataclass(frozen=True)
class GenerateFlags:
    """Continue a text with a language model, dense or sparse."""

    model: tyro.conf.Positional[str]
    """A Hugging Face model: a directory, or a name on the hub."""
    prompt: str
    """The text to continue."""
    plan: str | None = None
    """Directory of a plan made by `sparsact calibrate`. Without one the model stays dense."""
    dtype: Literal["float32", "bfloat16", "int8", "int4"] = "bfloat16"
    """Stored dtype of the weights of a sparse model."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    device: str = "cpu"
    """Where the model runs, such as cuda. The compiled step of a token is for the CPU."""
    tokens: int = 64
    """At most this many tokens are added."""
    temperature: float = 0.0
    """0 takes the most likely token; above 0 draws one, and larger values vary more."""
    top_p: float = 1.0
    """Draw only from the most likely tokens that reach this probability."""
    seed: int = 0
    """Seed of the draws."""


def generate(config: tyro.conf.OmitArgPrefixes[GenerateFlags]) -> int:
    """Continue a text with a language model, dense or sparse."""
    console = Console()
    if config.tokens < 0:
        raise InputError(f"tokens= must be at least 0, got {config.tokens}")
    plan = None if config.plan is None else ThresholdPlan.load(config.plan)
    model, tokenizer = load_language_model(config.model, config.gguf, device=config.device)
    if plan is not None:
        sparsify(model, plan, config.dtype)
    ids = tokenizer(config.prompt, return_tensors="pt").input_ids.to(config.device)
    if ids.shape[1] == 0:
        raise InputError("prompt= has no tokens")
    tokens, seconds, start = [], [], time.perf_counter()
    for token in stream(
        model,
        ids,
        config.tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        generator=torch.Generator(config.device).manual_seed(config.seed),
    ):
        tokens.append(token)
        seconds.append(time.perf_counter() - start)
    say(console, tokenizer.decode([*ids[0].tolist(), *tokens], skip_special_tokens=True))
    if len(tokens) > 1:
        each = 1e3 * (seconds[-1] - seconds[0]) / (len(tokens) - 1)
        say(console, f"{len(tokens)} tokens, {each:.1f} ms for each after the first")
    return 0
