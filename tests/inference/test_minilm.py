import os
import re
from pathlib import Path

import pytest
import torch

from sparsact.calibration import calibrate

MODELS = Path(os.environ.get("SPARSACT_MODELS", Path(__file__).parents[2] / "models"))
pytestmark = pytest.mark.models


def sentences(name, count):
    """Sentences spread over a text."""
    text = (MODELS / "text" / f"{name}.txt").read_text(encoding="utf-8")
    found = [" ".join(part.split()) for part in re.split(r"(?<=\.)\s+", text)]
    found = [part for part in found if 40 < len(part) < 200]
    return found[:: len(found) // count][:count]


def embedding(output, batch):
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=1)


def random_direction(output, batch):
    """Its gradient has the size of the embedding's sensitivity."""
    found = embedding(output, batch)
    signs = torch.randint(0, 2, found.shape, generator=torch.Generator().manual_seed(len(found)))
    return (found * (2 * signs - 1)).sum()


@pytest.mark.xfail(strict=True, reason="a cosine of 0.97 was measured, not yet the 0.98 aimed at")
def test_embeddings_at_40_percent():
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(MODELS / "minilm").eval()
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "minilm")
    seen, others = (
        [
            dict(tokenizer(found[start : start + 16], padding=True, return_tensors="pt"))
            for start in range(0, len(found), 16)
        ]
        for found in (sentences("calibrate", 256), sentences("held_out", 64))
    )
    plan = calibrate(
        model,
        seen[::4],
        0.4,
        loss_fn=random_direction,
        exclude="pooler.*",
        held_out=others,
    )
    plan = plan.compensate(model, seen)
    assert plan.achieved_sparsity == pytest.approx(0.4, abs=0.02)
    cosines = []
    with torch.no_grad():
        for batch in others:
            dense = embedding(model(**batch), batch)
            with plan.applied(model):
                sparse = embedding(model(**batch), batch)
            cosines.append((dense * sparse).sum(1))
    cosine = float(torch.cat(cosines).mean())
    print(f"cosine {cosine:.4f}")
    assert cosine >= 0.98
