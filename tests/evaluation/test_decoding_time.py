import copy

import pytest
import torch

from sparsact.calibration import calibrate
from sparsact.evaluation.decoding_time import decode_in_turn, greedy_passage, layers_apart
from sparsact.evaluation.weight_bytes import weight_bytes
from sparsact.inference import sparsify
from sparsact.text.windows import as_batches
from tiny_language import gpt2, llama

PROMPT = torch.randint(2, 18, (1, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["bfloat16", "int8"])
def sparse(request):
    model = llama()
    rows = torch.randint(2, 18, (4, 32), generator=torch.Generator().manual_seed(2))
    plan = calibrate(model, as_batches(rows), 0.5)
    return plan, sparsify(model, plan, request.param)


def test_the_passage_equals_greedy_generation():
    model = llama()
    generated = model.generate(PROMPT, max_new_tokens=10, do_sample=False, eos_token_id=None)
    assert greedy_passage(model, PROMPT, 10).tokens.tolist() == generated[0, 12:].tolist()


def test_every_model_decodes_in_every_round():
    models = {"a": llama(), "b": llama(num_hidden_layers=1)}
    steps = []
    passage = greedy_passage(models["a"], PROMPT, 5)
    times = decode_in_turn(models, passage, 3, lambda: steps.append(1))
    assert {name: len(actual) for name, actual in times.items()} == {"a": 9, "b": 9}
    assert len(steps) == 2 * (1 + 3)
    assert all(ms > 0 for actual in times.values() for ms in actual)


def test_timed_layers_equal_the_simulation(sparse):
    _, fast = sparse
    passage = greedy_passage(fast, PROMPT, 10)
    assert layers_apart(fast, passage) < 1e-5
    layer = fast.model.layers[1].mlp.down_proj
    layer.register_forward_hook(lambda module, args, output: 1.01 * output)
    assert layers_apart(fast, passage) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(("make", "embeddings"), [(llama, 32 * 32), (gpt2, 160 * 32)])
def test_dense_bytes_exclude_embeddings_only(make, embeddings):
    model = make()
    # both share the embedding's weight with the head, which is read whole
    numbers = sum(parameter.numel() for parameter in model.parameters())
    expected = 4 * (numbers - embeddings + 32 * 32)
    buffers = 4 * sum(buffer.numel() for buffer in model.buffers())
    assert weight_bytes(model) == expected + buffers
    assert weight_bytes(copy.deepcopy(model).bfloat16()) <= expected // 2 + buffers


def test_skipped_bytes_do_not_count():
    model = llama()
    layer = "model.layers.1.mlp.down_proj"
    assert weight_bytes(model) - weight_bytes(model, {layer: 0.25}) == 0.25 * 4 * 64 * 32
