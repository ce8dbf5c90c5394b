import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sparsact as sa
from sae_kind_cases import EXPORTED, EXPORTED_TRANSCODERS
from sparsact._common.errors import InputError
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    load_saelens,
    load_sparsify,
    save_saelens,
)

PEERS = Path(__file__).parents[1] / "peers"
MADE = sorted(path.name for path in PEERS.iterdir() if (path / "cfg.json").exists())
PYTHON = Path(__file__).parents[3] / ".venv-peers" / "bin" / "python"


def load(path):
    return load_sparsify(path) if path.name.startswith("sparsify") else load_saelens(path)


def copied(name, path, **changes):
    """A copy of a directory of another library, with other settings."""
    shutil.copytree(PEERS / name, path)
    settings = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps(settings | changes))
    return path


def retensored(path, change):
    file = next(file for file in path.glob("*.safetensors") if file.name != "expected.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return path


def trained(kind, batches, **config):
    """An autoencoder whose scale, biases and levels are not where they started."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4, **config))
    trainer = SAETrainer(sae, SAETrainConfig(lr=1e-2, lr_warmup_steps=0, sparsity_warmup_steps=0))
    for _ in range(20):
        batch = next(batches)
        trainer.step((batch, batch[:, :8]) if config else batch)
    return sae.eval()


@pytest.mark.parametrize("name", MADE)
def test_files_of_other_libraries_compute_the_same(name):
    sae = load(PEERS / name)
    expected = load_file(PEERS / name / "expected.safetensors")
    # selects in the batch, as theirs
    sae.train(name in ("saelens_batchtopk_training", "saelens_matryoshka_training"))
    with torch.no_grad():
        latents = sae.encode(expected["x"])
        torch.testing.assert_close(latents, expected["latents"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(sae(expected["x"]), expected["rebuilt"], atol=1e-5, rtol=1e-5)


def test_every_architecture_has_a_fixture():
    found = {
        json.loads((PEERS / name / "cfg.json").read_text())["architecture"]
        for name in MADE
        if name.startswith("saelens")
    }
    assert found == set(sa.sae.interchange.saelens_import.ARCHITECTURES)
    assert {"sparsify_topk", "sparsify_transcoder"} < set(MADE)


def test_a_loaded_batch_topk_uses_its_threshold_and_can_be_trained():
    sae = load_saelens(PEERS / "saelens_batchtopk_training")
    for_use = load_saelens(PEERS / "saelens_batchtopk_inference")
    x = torch.randn(50, 6)
    assert sae.activation.running_threshold == 1.25
    torch.testing.assert_close(sae.encode(x), for_use.encode(x), atol=1e-5, rtol=1e-5)
    assert SAETrainer(sae.train(), SAETrainConfig()).step(x).l0 == pytest.approx(3)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("relu", "saelens_standard"),
        ("topk", "saelens_topk"),
        ("batch_topk", "saelens_batchtopk_inference"),
        ("jumprelu", "saelens_jumprelu"),
        ("gated", "saelens_gated"),
    ],
)
def test_an_export_has_the_files_of_saelens(kind, name, tmp_path):
    written = save_saelens(SparseAutoencoder(SAEConfig(6, 16, kind, k=3)), tmp_path / "out")
    assert {file.name for file in written.iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    ours, theirs = (json.loads((path / "cfg.json").read_text()) for path in (written, PEERS / name))
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {"metadata", "apply_b_dec_to_input"}:
        assert ours[key] == theirs[key], key
    assert ours["metadata"]["sae_lens_version"] == theirs["metadata"]["sae_lens_version"]
    ours, theirs = (load_file(path / "sae_weights.safetensors") for path in (written, PEERS / name))
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    assert {value.dtype for value in ours.values()} == {torch.float32}


@pytest.mark.parametrize("kind", EXPORTED)
def test_an_export_comes_back_equal(kind, batches, tmp_path):
    sae, x = trained(kind, batches), next(batches)
    assert sae.scale_in != 1
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    loaded = load_saelens(save_saelens(sae, tmp_path / "out", {"hook_name": "blocks.0.x"}))
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(loaded.encode(x), sae.encode(x) / sae.scale_out, **close)
    torch.testing.assert_close(loaded(x), sae(x), **close)
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    metadata = json.loads((tmp_path / "out" / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.0.x"


@pytest.mark.parametrize("kind", EXPORTED_TRANSCODERS)
def test_transcoders_are_exported(kind, batches, tmp_path):
    sae, x = trained(kind, batches, d_out=8), next(batches)
    loaded = load_saelens(save_saelens(sae, tmp_path / "out"))
    assert loaded.config.d_out == 8
    torch.testing.assert_close(loaded(x), sae(x), atol=1e-5, rtol=1e-5)


def test_a_module_of_a_known_kind_is_exported(tmp_path):
    jump = sa.nn.JumpReLU(0.3, kernel="triangle")
    sae = SparseAutoencoder(SAEConfig(6, 16, "custom"), jump)
    loaded = load_saelens(save_saelens(sae, tmp_path / "out"))
    x = torch.randn(9, 6)
    torch.testing.assert_close(loaded(x), sae(x))


@pytest.mark.parametrize(
    "sae",
    [
        SparseAutoencoder(SAEConfig(6, 16, "softshrink")),
        SparseAutoencoder(SAEConfig(6, 16, "topk", k=3, d_out=5)),
        SparseAutoencoder(SAEConfig(6, 16, "gated", d_out=5)),
        SparseAutoencoder(SAEConfig(6, 16, "custom"), sa.nn.TopK(3, by="magnitude")),
        SparseAutoencoder(SAEConfig(6, 16, "custom"), sa.nn.Hardshrink()),
    ],
    ids=["softshrink", "topk transcoder", "gated transcoder", "by magnitude", "custom"],
)
def test_kinds_that_saelens_lacks_are_not_exported(sae, tmp_path):
    with pytest.raises(ValueError, match="SAELens has no"):
        save_saelens(sae, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_overwrites_nothing(tmp_path):
    sae = SparseAutoencoder(SAEConfig(6, 16, k=3))
    (tmp_path / "empty").mkdir()
    save_saelens(sae, tmp_path / "empty")
    for path in (tmp_path / "empty", tmp_path / "empty" / "cfg.json"):
        with pytest.raises(InputError, match="choose another"):
            save_saelens(sae, path)


def test_narrow_weights_are_read_in_float32(tmp_path):
    def narrow(tensors):
        tensors.update({name: value.bfloat16() for name, value in tensors.items()})

    path = retensored(copied("saelens_topk", tmp_path / "x", dtype="bfloat16"), narrow)
    sae, whole = load_saelens(path), load_saelens(PEERS / "saelens_topk")
    assert sae.W_dec.dtype == torch.float32
    assert torch.equal(sae.W_dec, whole.W_dec.bfloat16().float())


def test_a_log_threshold_of_older_trainings_is_read(tmp_path):
    def to_logarithm(tensors):
        tensors["log_threshold"] = tensors.pop("threshold").abs().log()

    path = retensored(copied("saelens_jumprelu", tmp_path / "x"), to_logarithm)
    level = load_file(PEERS / "saelens_jumprelu" / "sae_weights.safetensors")["threshold"].abs()
    torch.testing.assert_close(load_saelens(path).activation.lambd.data, level)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("saelens_topk", {"architecture": "temporal"}, "'temporal'.*standard, topk"),
        ("saelens_topk", {"architecture": None}, "architecture.*must be str"),
        ("saelens_topk", {"metadata": {"sae_lens_version": "7.1.0"}}, "'7.1.0'.*up to 6"),
        ("saelens_topk", {"metadata": {"sae_lens_version": "x"}}, "'x'.*up to 6"),
        ("saelens_topk", {"normalize_activations": "whitening"}, "whitening"),
        ("saelens_topk", {"normalize_activations": "expected_average_only_in"}, "scaling_factor"),
        ("saelens_topk", {"d_in": "6"}, "d_in.*must be int, found '6'"),
        ("saelens_topk", {"d_sae": 17}, r"W_enc.*must be \(6, 17\).*got \(6, 16\)"),
        ("saelens_topk", {"k": None}, "k .*whole number, found None"),
        ("saelens_topk", {"k": 17}, "k=17"),
        ("saelens_topk", {"architecture": "jumprelu"}, "no threshold"),
        ("saelens_jumprelu", {"architecture": "standard"}, "also holds threshold"),
        ("saelens_batchtopk_training", {"k": 2.5}, "save_inference_model"),
        ("saelens_before_6", {"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ("saelens_before_6", {"normalize_activations": True}, "scaling_factor"),
        ("sparsify_topk", {"activation": "groupmax"}, "groupmax"),
        ("sparsify_topk", {"skip_connection": True}, "skip_connection=True"),
        ("sparsify_topk", {"signed": True}, "signed=True"),
        ("sparsify_topk", {"num_latents": 9}, r"encoder.weight.*must be \(9, 6\)"),
        ("sparsify_topk", {"k": 0}, "k= must be at least 1"),
        ("sparsify_topk", {"d_in": True}, "d_in.*must be int"),
    ],
)
def test_unknown_content_is_rejected(name, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(copied(name, tmp_path / name, **changes))


def test_a_finetuning_factor_is_rejected_unless_it_is_one(tmp_path):
    path = copied("saelens_standard", tmp_path / "x")
    retensored(path, lambda tensors: tensors.update(scaling_factor=torch.ones(16)))
    load_saelens(path)
    retensored(path, lambda tensors: tensors["scaling_factor"].mul_(2))
    with pytest.raises(ValueError, match="scaling_factor"):
        load_saelens(path)


@pytest.mark.parametrize(
    ("read", "name"), [(load_saelens, "saelens_topk"), (load_sparsify, "sparsify_topk")]
)
def test_broken_and_missing_files(read, name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cfg\.json"):
        read(tmp_path / "nothing")
    path = copied(name, tmp_path / "x")
    weights = next(file for file in path.glob("sae*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:200])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        read(path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=weights.name):
        read(path)
    (path / "cfg.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold an object"):
        read(path)
    (path / "cfg.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read(path)


def test_the_wrong_library_is_an_error():
    with pytest.raises(FileNotFoundError, match="sae_weights"):
        load_saelens(PEERS / "sparsify_topk")
    with pytest.raises(FileNotFoundError, match=r"holds no sae\.safetensors"):
        load_sparsify(PEERS / "saelens_topk")


@pytest.mark.skipif(not PYTHON.exists(), reason="the environment of the peers is not made")
def test_saelens_itself_reads_an_export(batches, tmp_path):
    x = next(batches)
    made = {kind: trained(kind, batches) for kind in EXPORTED}
    made["transcoder"] = trained("relu", batches, d_out=8)
    for name, kind in (("skip", "relu"), ("jumprelu skip", "jumprelu")):
        made[name] = SparseAutoencoder(SAEConfig(16, 48, kind, d_out=8, skip=True)).eval()
        torch.nn.init.normal_(made[name].W_skip)
    for name in ("layer_norm", "unit_norm"):
        made[name] = SparseAutoencoder(SAEConfig(16, 48, "topk", k=4, normalize=name)).eval()
    for kind, sae in made.items():
        save_saelens(sae, tmp_path / kind)
    save_file({"x": x}, tmp_path / "x.safetensors")
    code = PEERS / "read.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([PYTHON, code, tmp_path], check=True, env=environment, capture_output=True)
    for kind, sae in made.items():
        found = load_file(tmp_path / kind / "found.safetensors")
        latents, rebuilt = sae.encode(x) / sae.scale_out, sae(x)
        torch.testing.assert_close(found["latents"], latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found["rebuilt"], rebuilt, atol=1e-5, rtol=1e-5)
