"""Core metrics, sparse probing and absorption, against scikit-learn and brute force."""

import dataclasses

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sparsact.sae import (
    SAEConfig,
    SparseAutoencoder,
    absorption,
    core_metrics,
    evaluate_spliced,
    pack_tokens,
    sparse_probing,
    to_saebench,
)
from sparsact.sae.evaluation.absorption import absorbed
from sparsact.sae.evaluation.linear_probe import fit_probe, split_of
from tiny_language import llama


def autoencoder(d_in=16, d_sae=64, **options):
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(d_in, d_sae, k=4, **options))
    sae.scale_in.fill_(2.0)
    sae.scale_out.fill_(2.0)
    return sae


@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_the_probe_is_that_of_scikit_learn(strength):
    torch.manual_seed(0)
    x = torch.randn(80, 6) * torch.tensor([1.0, 10, 0.1, 1, 1, 0]) + 3
    labels = x[:, 0] + 0.3 * x[:, 1] / 10 + 0.5 * torch.randn(80) > 3.5
    probe = fit_probe(x, labels, strength=strength)
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=1000)
    theirs.fit(scaler.transform(x.double().numpy()), labels.numpy())
    expected = theirs.decision_function(scaler.transform(x.double().numpy()))
    torch.testing.assert_close(
        x.double() @ probe.weight + probe.bias, torch.from_numpy(expected), atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="two classes"):
        fit_probe(x, torch.ones(80, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN"):
        fit_probe(x * torch.nan, labels)


def test_splits():
    train, test = split_of(10, 0)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(10))
    assert len(test) == 2


def test_core_metrics_by_hand():
    sae, x = autoencoder(), torch.randn(300, 16) + 1
    found = core_metrics(sae, list(x.split(70)))
    with torch.no_grad():
        latents, rebuilt = sae.encode(x), sae(x)
    sizes, rebuilt_sizes = x.norm(dim=1), rebuilt.norm(dim=1)
    expected = {
        "l2_norm_in": sizes.mean(),
        "l2_norm_out": rebuilt_sizes.mean(),
        "l2_ratio": (rebuilt_sizes / sizes).mean(),
        "relative_reconstruction_bias": rebuilt_sizes.square().mean() / (x * rebuilt).sum(1).mean(),
    }
    for name, value in expected.items():
        assert found["shrinkage"][name] == pytest.approx(float(value), rel=1e-4)
    assert found["sparsity"]["l1"] == pytest.approx(float(latents.abs().sum(1).mean()), rel=1e-4)
    assert found["sparsity"]["l0"] == pytest.approx(float((latents != 0).sum(1).float().mean()))
    density = (latents != 0).float().mean(0)
    misc = found["misc_metrics"]
    assert misc["freq_over_1_percent"] == pytest.approx(float((density > 0.01).float().mean()))
    share = density[density > 0.1].sum() / density.sum()
    assert misc["normalized_freq_over_10_percent"] == pytest.approx(float(share), rel=1e-4)
    unit = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    cosine = (unit @ unit.T - 2 * torch.eye(64)).max(1).values.mean()
    assert misc["average_max_decoder_cosine_sim"] == pytest.approx(float(cosine), rel=1e-4)
    error = (x - rebuilt).square().sum() / (x - x.mean(0)).square().sum()
    quality = found["reconstruction_quality"]
    assert quality["explained_variance"] == pytest.approx(1 - float(error), rel=1e-3, abs=1e-4)
    assert "model_behavior_preservation" not in found


def test_core_metrics_of_the_model():
    model, sae = llama(), autoencoder(32)
    tokens = pack_tokens(torch.randint(2, 16, (30,)).tolist(), 8, bos=0)
    spliced = evaluate_spliced(model, "model.layers.0", sae, tokens)
    found = core_metrics(sae, [torch.randn(20, 32)], spliced)
    kept = tokens.kept()

    def ablate(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        x = x.masked_fill(kept[..., None], 0)
        return (x, *output[1:]) if isinstance(output, tuple) else x

    inputs = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
    predicted = tokens.mask[:, 1:]
    with torch.no_grad():
        logs = model(**inputs).logits[:, :-1][predicted].log_softmax(-1)
        handle = model.model.layers[0].register_forward_hook(ablate)
        zeros = model(**inputs).logits[:, :-1][predicted].log_softmax(-1)
        handle.remove()
    kl = float((logs.exp() * (logs - zeros)).sum(-1).mean())
    behaviour = found["model_behavior_preservation"]
    assert behaviour["kl_div_with_ablation"] == pytest.approx(kl, rel=1e-4)
    assert behaviour["kl_div_score"] == pytest.approx((kl - spliced.kl) / kl, rel=1e-4)
    performance = found["model_performance_preservation"]
    assert performance["ce_loss_score"] == spliced.recovered_of_zero


def planted(sae, latents, count, tokens=6):
    """Texts whose tokens lie along the directions of some latents."""
    directions = sae.W_dec.detach()[list(latents)]
    return [torch.rand(tokens, len(directions)) @ directions + 0.01 for _ in range(count)]


def test_sparse_probing_finds_the_latent_of_a_class():
    sae = autoencoder()
    torch.manual_seed(1)
    texts = {"a": planted(sae, [3], 40), "b": planted(sae, [9], 40), "c": planted(sae, [20], 40)}
    found = sparse_probing(sae, texts, ks=(1, 3))
    assert found.sparse[1]["a"] == 1.0
    assert found.figures()["sae_top_3_test_accuracy"] > 0.9
    assert found.texts == {"a": 40, "b": 40, "c": 40}
    noise = {name: [torch.randn(6, 16) for _ in range(60)] for name in "ab"}
    assert sparse_probing(sae, noise).dense["a"] < 0.75


@pytest.mark.parametrize(
    ("sizes", "ks", "message"),
    [
        ({"a": 9}, (1,), "at least two classes"),
        ({"a": 9, "b": 4}, (1,), "'b' has 4"),
        ({"a": 9, "b": 9}, (0,), "ks="),
        ({"a": 9, "b": 9}, (65,), "ks="),
        ({"a": 9, "b": 9}, (), "ks="),
    ],
)
def test_probing_of_too_little(sizes, ks, message):
    texts = {name: [torch.randn(2, 16)] * count for name, count in sizes.items()}
    with pytest.raises(ValueError, match=message):
        sparse_probing(autoencoder(), texts, ks=ks)


def by_saebench(projection, contributions, main, cosine):
    """The fraction of one word, as SAEBench's rules say."""
    main_part = float(contributions[main].sum())
    others = [
        float(value)
        for at, value in enumerate(contributions)
        if at not in main and cosine[at] >= 0.1 and value > 0
    ]
    top = sum(sorted(others, reverse=True)[:3])
    if main_part >= projection or top / projection < 0.4:
        return 0.0
    if main_part <= 0:
        return 1.0
    part = min(top, projection - main_part)
    return part / (part + main_part)


def test_the_absorbed_fraction_word_by_word():
    generator = torch.Generator().manual_seed(0)
    cosine = torch.rand(12, generator=generator) - 0.3
    codes = torch.rand(300, 12, generator=generator) * (
        torch.rand(300, 12, generator=generator) < 0.4
    )
    contributions, main = codes * cosine, [2, 7]
    projection = torch.rand(300, generator=generator) + 0.1
    found = absorbed(projection, contributions, main, cosine)
    expected = [
        by_saebench(float(p), c, main, cosine)
        for p, c in zip(projection, contributions, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert (found > 0).any()


def test_absorption_of_a_planted_feature():
    """Words of class a have latent 0, but a third of them latent 1 in its place."""
    sae = SparseAutoencoder(SAEConfig(16, 16, "relu"))
    with torch.no_grad():
        sae.encoder.weight.copy_(torch.eye(16))
        sae.W_dec.copy_(torch.eye(16))
        sae.W_dec[1, 0] = 1.0  # absorbing: it points along the class, too
        sae.W_dec[1] /= sae.W_dec[1].norm()
        sae.encoder.weight[1, 0] = 0.0
    torch.manual_seed(0)

    def words(count, absorbed_by_1):
        rows = 0.05 * torch.rand(count, 16)
        rows[:, 0] += 2
        rows[: int(count * absorbed_by_1), 0] = 0
        rows[: int(count * absorbed_by_1), 1] += 3
        return rows

    others = 0.05 * torch.rand(90, 16)
    others[:, 5] += 2
    clean = absorption(sae, {"a": words(90, 0.0), "b": others})["a"]
    mixed = absorption(sae, {"a": words(90, 0.33), "b": others})["a"]
    assert clean.fraction == pytest.approx(0.0, abs=0.02)
    assert clean.main[0] == 0
    assert clean.words > 5
    assert 0 <= mixed.fraction <= 1
    with pytest.raises(ValueError, match="two classes with 10 words"):
        absorption(sae, {"a": words(90, 0), "b": others[:3]})


def test_the_form_of_saebench():
    sae = autoencoder()
    adapted = to_saebench(sae, "pythia-70m-deduped", 3)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(adapted(x), sae.eval()(x))
    torch.testing.assert_close(adapted.decode(adapted.encode(x)), adapted(x))
    pre = (x - adapted.b_dec) @ adapted.W_enc + adapted.b_enc
    torch.testing.assert_close(
        adapted.encode(x).amax(-1), pre.amax(-1).relu(), atol=1e-4, rtol=1e-4
    )
    assert adapted.W_dec.shape == (64, 16)
    assert adapted.cfg.to_dict()["hook_name"] == "blocks.3.hook_resid_post"
    half = adapted.to(dtype=torch.bfloat16)
    assert half.dtype == half.encode(x.bfloat16()).dtype == torch.bfloat16
    for options in ({"d_out": 16}, {"normalize": "layer_norm"}):
        with pytest.raises(ValueError, match="SAEBench evaluates"):
            to_saebench(autoencoder(**options), "m", 0)
    with pytest.raises(ValueError, match="not of a transcoder"):
        core_metrics(autoencoder(d_out=16), [x[0]])
    assert dataclasses.is_dataclass(adapted.cfg)
