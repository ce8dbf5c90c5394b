import os
import re
from pathlib import Path

import pytest
import torch

from sparsact.calibration import calibrate, compensate, tune
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.calibration.tune import LEARNED

MODELS = Path(os.environ.get("SPARSACT_MODELS", Path(__file__).parents[2] / "models"))
pytestmark = pytest.mark.models


def sentences(file):
    """The sentences of a text."""
    text = (MODELS / file).read_text(encoding="utf-8")
    actual = [" ".join(part.split()) for part in re.split(r"(?<=\.)\s+", text)]
    return [part for part in actual if 40 < len(part) < 200]


def batches(tokenizer, texts):
    """By length, so that there is little padding, and then in any order."""
    texts = sorted(texts, key=len)
    actual = [
        dict(tokenizer(texts[start : start + 32], padding=True, return_tensors="pt"))
        for start in range(0, len(texts), 32)
    ]
    order = torch.randperm(len(actual), generator=torch.Generator().manual_seed(0))
    return [actual[place] for place in order.tolist()]


def embedding(output, batch):
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=1)


def random_direction(output, batch):
    """Its gradient has the size of the embedding's sensitivity."""
    actual = embedding(output, batch)
    signs = torch.randint(0, 2, actual.shape, generator=torch.Generator().manual_seed(len(actual)))
    return (actual * (2 * signs - 1)).sum()


def cosine(model, plan, given):
    """Of the sparse model's embeddings with the dense one's, the mean."""
    actual = []
    with torch.no_grad():
        for batch in given:
            dense = embedding(model(**batch), batch)
            with plan.applied(model):
                actual.append((dense * embedding(model(**batch), batch)).sum(1))
    return float(torch.cat(actual).mean())


def test_embeddings_at_40_percent():
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(MODELS / "minilm").eval()
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "minilm")
    held_out = sentences("text/held_out.txt")
    known = set(held_out)
    seen = sentences("text/calibrate.txt") + sentences("docstrings/train.txt")
    seen = batches(tokenizer, [text for text in seen if text not in known])
    others = batches(tokenizer, held_out[::4])
    steps = {}
    steps["calibrated"] = plan = calibrate(
        model, seen[:4], 0.4, loss_fn=random_direction, exclude="pooler.*"
    )
    steps["compensated"] = plan = compensate(plan, model, seen[:16], rank=128)
    steps["tuned"] = plan = tune(plan, model, seen, 400, learn=LEARNED, target=embedding)
    cosines = {name: cosine(model, each, others) for name, each in steps.items()}
    print({name: round(value, 4) for name, value in cosines.items()})
    achieved = byte_sparsity(plan.sites, plan.measure(model, others))
    assert achieved == pytest.approx(0.4, abs=0.01)
    assert 0.9 < cosines["calibrated"] < cosines["compensated"] < cosines["tuned"]
    assert cosines["tuned"] >= 0.98
