"""Names on the hub, in a cache without a network."""

import shutil

import pytest
import torch

from foreign_layouts import PEERS
from sparsact._common.errors import InputError
from sparsact.sae import (
    load,
    load_saelens,
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub that holds one repository at two revisions; there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--someone--autoencoders"
    (folder / "refs").mkdir(parents=True)
    for name, commit, source in (("main", "a" * 40, "topk"), ("old", "b" * 40, "standard")):
        (folder / "refs" / name).write_text(commit)
        snapshot = folder / "snapshots" / commit
        shutil.copytree(PEERS / f"saelens_{source}", snapshot / "layers" / "15")
    shutil.copytree(PEERS / "sparsify_topk", folder / "snapshots" / ("a" * 40), dirs_exist_ok=True)
    return folder


def test_names_on_the_hub(hub):
    assert load("someone/autoencoders").config.k == 3
    topk = load_saelens(PEERS / "saelens_topk")
    for sae in (
        load("someone/autoencoders", subfolder="layers/15"),
        load("someone/autoencoders/layers/15"),
        load("someone/autoencoders/layers", subfolder="15", revision="main"),
    ):
        assert torch.equal(sae.W_dec, topk.W_dec)
    old = load("someone/autoencoders", revision="old", subfolder="layers/15")
    assert old.config.activation == "relu"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("someone/else", {}, "no autoencoder 'someone/else'"),
        ("someone/autoencoders", {"revision": "no"}, "'someone/autoencoders' at revision 'no'"),
        ("someone/autoencoders", {"subfolder": "layers/16"}, "no layers/16.*subfolder="),
        (
            "someone/autoencoders",
            {"revision": "old"},
            "holds no autoencoder.*layers/15.*subfolder=",
        ),
        ("nothing", {}, "nothing does not exist, and is no name on the hub"),
        ("./some/where", {}, "does not exist"),
        ("/some/where", {"subfolder": "x"}, "/some/where/x does not exist"),
        ("some one/else", {}, "does not exist"),
    ],
)
def test_names_that_the_hub_does_not_have(name, options, message, hub):
    with pytest.raises(InputError, match=message):
        load(name, **options)
