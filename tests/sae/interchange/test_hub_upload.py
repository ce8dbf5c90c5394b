"""Uploading to a stand-in of the hub, whose upload is copied into its cache."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from sparsact._common.errors import InputError, OutputError
from sparsact.sae import SAEConfig, SparseAutoencoder, TrainedOn, evaluate, load, push_to_hub

COMMIT = "a" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub without a network: uploads become the newest revision in the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    class Interface:
        made = []  # noqa: RUF012

        def __init__(self, token):
            self.token = token

        def create_repo(self, name, private, exist_ok):
            self.made.append((name, private, exist_ok, self.token))

        def upload_folder(self, repo_id, folder_path, path_in_repo, commit_message):
            cache = tmp_path / f"models--{repo_id.replace('/', '--')}"
            (cache / "refs").mkdir(parents=True, exist_ok=True)
            (cache / "refs" / "main").write_text(COMMIT)
            place = cache / "snapshots" / COMMIT / (path_in_repo or "")
            shutil.copytree(folder_path, place, dirs_exist_ok=True)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Interface)
    return Interface


@pytest.mark.parametrize("subfolder", [None, "layers/15"])
def test_what_is_pushed_is_loaded_by_its_name(subfolder, hub, tmp_path):
    sae = SparseAutoencoder(SAEConfig(8, 32, "jumprelu"))
    sae.trained_on = TrainedOn("someone/small", "model.layers.15", weights={"a.weight": (0.5,)})
    metrics = evaluate(sae, [torch.randn(64, 8)])
    name = "someone/autoencoders"
    address = push_to_hub(
        sae, name, subfolder=subfolder, metrics=metrics, private=True, token="secret"
    )
    assert address == f"https://hub/{name}"
    assert hub.made[-1] == (name, True, True, "secret")
    loaded = load(name, subfolder=subfolder)
    assert torch.equal(loaded.W_dec, sae.W_dec)
    assert loaded.trained_on == sae.trained_on
    card = next(tmp_path.rglob("README.md")).read_text()
    assert f"| fvu | {metrics.fvu:.4g} |" in card
    assert "| dead |" not in card  # unknown on 64 rows
    assert "base_model: someone/small\n---\n" in card
    assert "output of `model.layers.15`" in card
    (call,) = re.findall(r"sa\.sae\.load\((.*)\)", card)
    assert call == '"someone/autoencoders"' + (", subfolder='layers/15'" if subfolder else "")


def test_a_card_without_figures_or_origin(hub, tmp_path):
    push_to_hub(SparseAutoencoder(SAEConfig(8, 32, k=4, d_out=5)), "someone/plain")
    card = next(tmp_path.rglob("README.md")).read_text()
    assert "A sparse transcoder, topk, k = 4: 8 → 32 latents → 5. Its training is not" in card
    assert "base_model" not in card
    assert "held-out" not in card


@pytest.mark.parametrize("name", ["small", "a/b/c", "", "../x", "a b/c"])
def test_wrong_names(name, hub):
    with pytest.raises(InputError, match=r"repository= must be owner/name"):
        push_to_hub(SparseAutoencoder(SAEConfig(8, 32, k=4)), name)


def test_a_refusal_of_the_hub_is_one_line(hub, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no login\nmore")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(OutputError, match=r"someone/x could not be uploaded \(no login\)"):
        push_to_hub(SparseAutoencoder(SAEConfig(8, 32, k=4)), "someone/x")
    assert not list(Path.cwd().glob("sae"))
