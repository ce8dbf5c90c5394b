"""Sharing an autoencoder on the Hugging Face hub, with a model card."""

import math
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError, OutputError
from sparsact._common.extras import require
from sparsact._common.hub import NAME
from sparsact.sae.evaluation.reconstruction_metrics import SAEMetrics
from sparsact.sae.sae_files import save_sae
from sparsact.sae.sae_model import SparseAutoencoder

CARD = """---
library_name: sparsact
tags: [sparse-autoencoder, interpretability]
{base}---

# {title}

{size}. {origin}

```python
import sparsact as sa

sae = sa.sae.load({load})
```
{figures}"""


def push_to_hub(
    sae: SparseAutoencoder,
    repository: str,
    *,
    subfolder: str | None = None,
    metrics: SAEMetrics | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload an autoencoder and a model card; `load` reads it by its name.

    Args:
        sae: not changed.
        repository: ``owner/name``. It is made if it does not exist.
        subfolder: directory in the repository, for one of several autoencoders.
        metrics: figures on held-out activations, for the card.
        private: whether a new repository is private.
        token: of the hub; by default that of the login.

    Returns:
        the address of the upload.

    Raises:
        InputError: a ValueError: `repository` is no name of the form ``owner/name``.
        OutputError: an OSError: the hub refused, or cannot be reached.
        ImportError: huggingface_hub is not installed (extra ``sae``).
    """
    if not NAME.fullmatch(repository) or repository.startswith(".") or repository.count("/") != 1:
        raise InputError(f"repository= must be owner/name, got {repository!r}")
    hub: Any = require("huggingface_hub", "sae")
    with TemporaryDirectory() as temporary:
        folder = save_sae(sae, Path(temporary) / "sae")
        write_text(folder / "README.md", model_card(sae, repository, subfolder, metrics))
        try:
            interface = hub.HfApi(token=token)
            interface.create_repo(repository, private=private, exist_ok=True)
            uploaded = interface.upload_folder(
                repo_id=repository,
                folder_path=str(folder),
                path_in_repo=subfolder,
                commit_message=f"Sparse autoencoder {subfolder or ''}".strip(),
            )
        except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise OutputError(f"{repository} could not be uploaded ({reason})") from error
    return str(uploaded)


def model_card(
    sae: SparseAutoencoder,
    repository: str,
    subfolder: str | None = None,
    metrics: SAEMetrics | None = None,
) -> str:
    """The text of a model card: size, origin, how to load it, and figures.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> card = model_card(SparseAutoencoder(SAEConfig(8, 64, k=4)), "someone/small")
        >>> "topk, k = 4: 8 → 64 latents" in card
        True
    """
    config, origin = sae.config, sae.trained_on
    k = f", k = {config.k}" if config.selects else ""
    out = f" → {config.width_out}" if config.is_transcoder else ""
    place = f", subfolder={subfolder!r}" if subfolder else ""
    where = "Its training is not recorded."
    if origin is not None and origin.layer is not None:
        where = f"Trained on the {origin.site} of `{origin.layer}` of {origin.model or 'a model'}."
    base = f"base_model: {origin.model}\n" if origin is not None and origin.model else ""
    return CARD.format(
        base=base,
        title=f"{repository}{f'/{subfolder}' if subfolder else ''}",
        size=f"A sparse {'transcoder' if out else 'autoencoder'}, {config.activation}{k}: "
        f"{config.d_in} → {config.d_sae} latents{out}",
        origin=where,
        load=f'"{repository}"{place}',
        figures="" if metrics is None else _table(metrics),
    )


def _table(metrics: SAEMetrics) -> str:
    rows = [f"\nOn {metrics.inputs} held-out activations:\n", "| figure | value |", "|---|---|"]
    for entry in fields(metrics):
        value = getattr(metrics, entry.name)
        if isinstance(value, float) and not math.isnan(value):
            rows.append(f"| {entry.name} | {value:.4g} |")
    return "\n".join(rows) + "\n"
