"""A bench of a sparse model that was saved as one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.hub import NAME, fetched
from sparsact.calibration.plan_files import check_format, sparse_settings
from sparsact.evaluation.bench_config import BenchConfig

KEPT = "dense"
"""The directory in an exported sparse model that may hold the dense one."""


def with_exported_model(config: BenchConfig) -> BenchConfig:
    """The settings, completed by what a saved sparse model says about itself.

    Raises:
        MissingInputError: there is no such model.
        InputError: there is neither a plan nor a saved sparse model, or its format is newer.
    """
    if config.plan is not None:
        return config
    settings = _settings(config)
    kept = Path(config.model) / KEPT
    dense = config.dense_model or (str(kept) if kept.is_dir() else settings["dense"])
    if not dense:
        raise InputError(
            f"{config.model} does not say what dense model it was made from: give it as "
            "dense_model="
        )
    return replace(config, plan=config.model, dtype=settings["dtype"], dense_model=dense)


def _settings(config: BenchConfig) -> dict[str, Any]:
    folder = Path(config.model)
    if not folder.exists():
        if not NAME.fullmatch(config.model):
            raise MissingInputError(f"there is no directory {config.model}")
        files = ["config.json"]
        folder = fetched(
            config.model, config.revision, None, files, what="model", extra="transformers"
        )
    settings = sparse_settings(folder)
    if settings is None:
        raise InputError(
            f"plan= is needed, because {config.model} is no sparse model that was exported"
        )
    check_format(settings)
    return settings
