"""The real SmolLM2, which ``make test-models`` fetches: deselected by default."""

import os
from pathlib import Path

import pytest

from sparsact.calibration import calibrate
from sparsact.evaluation.decoding_time import greedy_passage, layers_apart
from sparsact.evaluation.perplexity import perplexity, perplexity_ratio, window_losses
from sparsact.inference import sparsify
from sparsact.text import load_language_model
from sparsact.text.windows import as_batches, choose, read_rows

MODELS = Path(os.environ.get("SPARSACT_MODELS") or Path(__file__).parents[2] / "models")

pytestmark = pytest.mark.models


def test_a_plan_for_40_percent_costs_little_and_equals_its_simulation():
    model, tokenizer = load_language_model(str(MODELS / "smollm2"))
    texts = [str(MODELS / "text" / name) for name in ("calibrate.txt", "held_out.txt")]
    rows, windows = (choose(read_rows(model, tokenizer, [text], 256, 2), 2) for text in texts)
    plan = calibrate(model, as_batches(rows), 0.4, held_out=as_batches(windows))
    assert 0.35 < plan.achieved_sparsity < 0.45
    dense = window_losses(model, windows)
    assert 5 < perplexity(dense).value < 80
    passage = greedy_passage(model, windows[:1, :32], 8)
    fast = sparsify(load_language_model(str(MODELS / "smollm2"))[0], plan, "bfloat16")
    ratio = perplexity_ratio(window_losses(fast, windows), dense)
    assert 1 < ratio.value < 1.35
    assert layers_apart(fast, passage) < 1e-5
