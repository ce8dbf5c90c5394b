import dataclasses

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sparsact.sae import SAEConfig, SparseAutoencoder, Tokens, evaluate_spliced, pack_tokens

WIDTH, WORDS = 16, 40
CONFIGS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=3, n_head=2, n_positions=32)
    ),
}
LAYERS = {"llama": "model.layers.1", "gpt2": "transformer.h.1"}


@pytest.fixture(params=CONFIGS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    made = CONFIGS[kind]()
    for parameter in made.parameters():  # initial weights are so small that every layer is alike
        parameter.data.mul_(8 if parameter.ndim > 1 else 1)
    return made.train()


@pytest.fixture
def tokens():
    return pack_tokens(torch.randint(1, WORDS, (53,)).tolist(), 9, bos=0)


@pytest.fixture
def sae():
    return SparseAutoencoder(SAEConfig(WIDTH, 64, "batch_topk", k=8))


def by_hand(model, kind, sae, tokens):
    """Row by row without padding, the layer's output changed by a hook of torch's own."""
    model, sae = model.eval(), sae.eval()
    layer = model.get_submodule(LAYERS[kind])
    rows = [ids[mask] for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
    seen = []

    def run(row, change):
        def hook(module, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = torch.cat([hidden[:, :1], change(hidden[:, 1:])], 1)  # not the BOS
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        with torch.no_grad():
            handle = layer.register_forward_hook(hook)
            logits = model(input_ids=row[None]).logits[0, :-1]
            handle.remove()
        return logits.double().log_softmax(-1)

    def look(hidden):
        seen.append(hidden[0])
        return hidden

    dense = [run(row, look) for row in rows]
    mean = torch.cat(seen).mean(0)
    spliced = [run(row, sae) for row in rows]
    zeros = [run(row, torch.zeros_like) for row in rows]
    means = [run(row, lambda hidden: mean.expand_as(hidden)) for row in rows]

    def loss(logs):
        chosen = [log.gather(1, row[1:, None]) for log, row in zip(logs, rows, strict=True)]
        return -torch.cat(chosen).mean().item()

    def divergence(changed):
        rows = zip(dense, changed, strict=True)
        return torch.cat([(p.exp() * (p - q)).sum(1) for p, q in rows]).mean().item()

    return {
        "tokens": sum(len(row) - 1 for row in rows),
        "cross_entropy": loss(dense),
        "spliced": loss(spliced),
        "zero_ablated": loss(zeros),
        "mean_ablated": loss(means),
        "kl": divergence(spliced),
        "zero_kl": divergence(zeros),
        "recovered_of_zero": (loss(zeros) - loss(spliced)) / (loss(zeros) - loss(dense)),
        "recovered_of_mean": (loss(means) - loss(spliced)) / (loss(means) - loss(dense)),
    }


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_equals_the_model_run_by_hand(model, kind, sae, tokens, batch_rows):
    seen = []
    found = evaluate_spliced(
        model,
        LAYERS[kind],
        sae,
        tokens,
        batch_rows=batch_rows,
        progress=lambda *done: seen.append(done),
    )
    assert model.training
    assert sae.training
    assert sae.activation.num_batches_tracked == 0
    assert not model.get_submodule(LAYERS[kind])._forward_hooks
    rows = len(tokens.ids)
    assert seen[-1] == (2 * rows, 2 * rows, "spliced into the model")
    assert not tokens.mask.all()
    expected = by_hand(model, kind, sae, tokens)
    assert len({round(value, 3) for value in expected.values()}) == len(expected)  # all differ
    assert dataclasses.asdict(found) == pytest.approx(expected, rel=1e-4)


def test_a_perfect_reconstruction_loses_nothing(model, kind, tokens):
    sae = SparseAutoencoder(SAEConfig(WIDTH, 2 * WIDTH, "relu"))
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]))
        sae.encoder.weight.copy_(sae.W_dec)
    found = evaluate_spliced(model, LAYERS[kind], sae, tokens)
    assert found.spliced == pytest.approx(found.cross_entropy, rel=1e-5)
    assert found.kl == pytest.approx(0, abs=1e-5)
    assert found.recovered_of_zero == pytest.approx(1, abs=1e-3)
    assert found.recovered_of_mean == pytest.approx(1, abs=1e-3)


def test_hooks_go_and_modes_stay_when_the_model_fails(model, kind, sae, tokens):
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    layer = model.get_submodule(LAYERS[kind])
    model.lm_head.forward = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate_spliced(model, LAYERS[kind], sae, tokens)
    assert not layer._forward_hooks
    assert model.training
    assert layer.training


def test_mistakes(model, kind, sae, tokens):
    with pytest.raises(ValueError, match=r"did you mean '.*1'"):
        evaluate_spliced(model, LAYERS[kind] + "x", sae, tokens)
    with pytest.raises(ValueError, match="matches 3 modules"):
        evaluate_spliced(model, LAYERS[kind][:-1] + "?", sae, tokens)
    wide = SparseAutoencoder(SAEConfig(WIDTH + 1, 64, k=8))
    with pytest.raises(ValueError, match=r"\(2, 9, 16\).*\(2, 9, 17\)"):
        evaluate_spliced(model, LAYERS[kind], wide, tokens)
    transcoder = SparseAutoencoder(SAEConfig(WIDTH, 64, k=8, d_out=WIDTH))
    with pytest.raises(ValueError, match="transcoder"):
        evaluate_spliced(model, LAYERS[kind], transcoder, tokens)
    lonely = Tokens(torch.ones(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="no token to predict"):
        evaluate_spliced(model, LAYERS[kind], sae, lonely)


def test_a_layer_that_is_not_called(sae, tokens):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.unused = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, input_ids, attention_mask):
            return self.embed(input_ids)

    with pytest.raises(ValueError, match="calls 'unused' 0 times"):
        evaluate_spliced(Unused(), "unused", sae, tokens)
