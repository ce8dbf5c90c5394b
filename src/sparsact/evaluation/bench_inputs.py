"""Reading a bench's plan, model and text, and checking that they fit together."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.extras import require
from sparsact.calibration import ThresholdPlan
from sparsact.evaluation.bench_config import BenchConfig
from sparsact.evaluation.decoding_time import check_cache
from sparsact.inference import sparsify
from sparsact.text import DatasetPart, load_language_model
from sparsact.text.windows import choose, read_rows, reference_rows

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class BenchInputs:
    """Everything that a bench reads.

    Attributes:
        plan: the plan that is measured.
        reference: the first dense model.
        windows: held-out text, (windows, length).
        calibration: text for the curve, (rows, length).
        prompt: start of the decoded passage, (1, length).
        tokenizer: of the model.
    """

    plan: ThresholdPlan
    reference: nn.Module
    windows: Tensor
    calibration: Tensor | None
    prompt: Tensor
    tokenizer: Any


def read_inputs(config: BenchConfig) -> BenchInputs:
    """Read the plan, the model and the texts.

    Raises:
        MissingInputError: there is no such plan, model or text.
        InputError: they do not fit together, or memory is too small.
    """
    assert config.plan is not None
    plan = ThresholdPlan.load(config.plan, revision=config.revision)
    if plan.keep_first >= config.length:
        raise InputError(
            f"the plan leaves the first {plan.keep_first} tokens dense, and there are "
            f"{config.length} in a window: choose a larger length="
        )
    reference, tokenizer = load_dense(config, config.dense[0])
    plan.check(reference)
    _check_memory(config, reference)
    if config.text:
        part = DatasetPart(config.text_config, config.text_split, config.text_column)
        rows = read_rows(reference, tokenizer, config.text, config.length, config.windows, part)
    else:
        rows = reference_rows(reference, tokenizer, config.length, config.windows)
    windows = choose(rows, config.windows).to(config.device)
    calibration = None
    if config.calibration_text:
        count = config.calibration_rows
        rows = read_rows(reference, tokenizer, config.calibration_text, config.length, count)
        calibration = choose(rows, count)
    _check_positions(config, reference)
    prompt = windows[len(windows) // 2 : len(windows) // 2 + 1, : config.prompt]
    check_cache(reference, prompt)
    return BenchInputs(plan, reference, windows, calibration, prompt, tokenizer)


def load_dense(config: BenchConfig, dtype: str) -> tuple[nn.Module, Any]:
    """The dense model in a dtype, and its tokenizer."""
    try:
        model, tokenizer = _load(config, config.dense_model or config.model, config.gguf)
    except MissingInputError as error:
        if not config.is_exported:
            raise
        raise MissingInputError(
            f"the dense model of {config.model} is not there ({error}): give it as dense_model="
        ) from error
    return model.to(getattr(torch, dtype)).requires_grad_(False), tokenizer


def load_sparse(config: BenchConfig, plan: ThresholdPlan) -> nn.Module:
    """The sparse model, from its own files or from the dense one."""
    if not config.is_exported:
        return sparsify(load_dense(config, config.dense[0])[0], plan, config.dtype)
    model, _ = _load(config, config.model)
    return model.to(getattr(torch, config.dense[0]))


def _load(config: BenchConfig, model: str, gguf: str | None = None) -> tuple[nn.Module, Any]:
    return load_language_model(
        model,
        gguf,
        revision=config.revision if model == config.model else None,
        trust_remote_code=config.trust_remote_code,
        device=config.device,
    )


def new_folder(config: BenchConfig) -> Path:
    """The directory of the report.

    Raises:
        InputError: it exists already.
    """
    name = Path(config.model).name or "model"
    default = Path("runs") / f"bench-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(config.out) if config.out else default
    if folder.exists():
        raise InputError(f"{folder} exists already: choose another out=")
    return folder


def _check_memory(config: BenchConfig, reference: nn.Module) -> None:
    """Raise InputError unless the other models will fit beside the first."""
    weights = sum(parameter.numel() for parameter in reference.parameters())
    # a sparse model starts as a dense one, and never becomes larger
    needed = weights * sum(_BYTES[dtype] for dtype in (config.dense[0], *config.dense[1:]))
    free = require("psutil", "llm").virtual_memory().available
    if needed > free:
        raise InputError(
            f"{needed / 1e9:.1f} GB more are needed to hold the models side by side, but only "
            f"{free / 1e9:.1f} GB are free: choose dense=bfloat16 alone"
        )


def _check_positions(config: BenchConfig, reference: nn.Module) -> None:
    """Raise InputError unless the model can decode all tokens."""
    settings: Any = reference.config
    positions = getattr(settings, "max_position_embeddings", None)
    if isinstance(positions, int) and config.prompt + config.tokens > positions:
        raise InputError(
            f"prompt={config.prompt} and tokens={config.tokens} are more than the model's "
            f"{positions} positions"
        )
