"""Files that `load` refuses: those that would run code, and damaged or unknown ones."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foreign_layouts import (
    D_IN,
    D_SAE,
    PEERS,
    gemma,
    gemma_1,
    openai,
    randn,
)
from sparsact._common.errors import InputError
from sparsact.sae import (
    load,
)


class Code:
    """Its pickle makes a directory when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["ae.pt", "8.pt"])
@pytest.mark.parametrize("protocol", ["torch.save", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(name, protocol, tmp_path):
    content = {"pre_bias": torch.zeros(3), "x": Code(tmp_path / "ran")}
    if protocol == "pickle":
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "AutoEncoder"}}')
    with pytest.raises(InputError, match=rf"{name} is refused.*would run the code"):
        load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_an_array_that_would_run_code_is_refused(tmp_path):
    arrays, *_ = gemma()
    folder = gemma_1(tmp_path / "x", arrays, more=np.array([Code(tmp_path / "ran")], object))
    with pytest.raises(InputError, match=r"params\.npz is not a complete"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def with_settings(name, **changes):
    def make(folder):
        shutil.copytree(PEERS / name, folder)
        file = folder / ("config.json" if name.startswith("dictionary") else "cfg.json")
        settings = json.loads(file.read_text())
        (settings["trainer"] if name.startswith("dictionary") else settings).update(changes)
        file.write_text(json.dumps(settings))

    return make


def dictionary(change):
    def make(folder):
        shutil.copytree(PEERS / "dictionary_learning_AutoEncoderTopK", folder)
        content = torch.load(folder / "ae.pt", weights_only=True)
        torch.save(change(content), folder / "ae.pt")

    return make


def gemma_with(**changes):
    def make(folder):
        arrays = gemma()[0] | {name: torch.as_tensor(value) for name, value in changes.items()}
        gemma_1(folder, {name: value for name, value in arrays.items() if value.numel()})

    return make


def openai_with(**changes):
    def make(folder):
        folder.mkdir()
        content = openai("TopK") | changes
        torch.save({name: v for name, v in content.items() if v is not None}, folder / "8.pt")
        return folder / "8.pt"

    return make


def texts(**files):
    def make(folder):
        folder.mkdir()
        for name, text in files.items():
            (folder / name.replace("_DOT_", ".")).write_text(text)

    return make


def llama_with(**changes):
    def make(folder):
        (folder / "checkpoints").mkdir(parents=True)
        tensors = {"encoder.weight": randn(D_SAE, D_IN), "encoder.bias": randn(D_SAE)}
        tensors |= {"decoder.weight": randn(D_IN, D_SAE), "decoder.bias": randn(D_IN)}
        save_file(tensors, folder / "checkpoints" / "final.safetensors")
        settings = {"act_fn": "jumprelu", "jump_relu_threshold": 0.5, **changes}
        (folder / "hyperparams.json").write_text(json.dumps(settings))

    return make


BAD = {
    "nothing": (texts(), "holds no autoencoder of a known format.*It holds nothing"),
    "text": (texts(a_DOT_txt="x"), "It holds a.txt"),
    "an unknown class": (
        with_settings("dictionary_learning_AutoEncoder", dict_class="CrossCoder"),
        "CrossCoder of dictionary_learning.*AutoEncoder",
    ),
    "no class": (with_settings("dictionary_learning_AutoEncoder", dict_class=None), "a None of"),
    "another class": (
        with_settings("dictionary_learning_AutoEncoderTopK", dict_class="GatedAutoEncoder"),
        "holds no r_mag",
    ),
    "a tensor too many": (dictionary(lambda c: c | {"x": torch.ones(3)}), "also holds x"),
    "a tensor too few": (
        dictionary(lambda c: {n: v for n, v in c.items() if n != "b_dec"}),
        "holds no b_dec",
    ),
    "another width": (dictionary(lambda c: c | {"b_dec": torch.ones(3)}), r"must be \(6,\)"),
    "a list": (dictionary(lambda c: [1, 2]), "must hold a dictionary of tensors, not list"),
    "a vector": (dictionary(lambda c: c | {"encoder.weight": torch.ones(3)}), "must be a matrix"),
    "k is too large": (dictionary(lambda c: c | {"k": torch.tensor(17)}), "k=17 exceeds"),
    "half a pickle": (texts(ae_DOT_pt="x" * 90), "ae.pt is (refused|not a complete)"),
    "an empty pickle": (texts(ae_DOT_pt=""), "ae.pt is (refused|not a complete)"),
    "half an archive": (texts(params_DOT_npz="PK" * 90), "params.npz is not a complete"),
    "an empty archive": (texts(params_DOT_npz=""), "params.npz is not a complete"),
    "no threshold": (gemma_with(threshold=torch.zeros(0)), "holds no threshold"),
    "thresholds too few": (gemma_with(threshold=torch.ones(3)), r"threshold.*must be \(16,\)"),
    "a factor": (gemma_with(scaling_factor=2 * torch.ones(D_SAE)), "scaling_factor"),
    "an unknown array": (gemma_with(extra=torch.ones(3)), "also holds extra"),
    "widths that differ": (gemma_with(w_dec=torch.ones(16, 7)), r"w_dec.*must be \(16, 6\)"),
    "tanh": (openai_with(activation="Tanh"), "'Tanh'.*ReLU, TopK"),
    "another after the selection": (
        openai_with(activation_state_dict={"k": 3, "postact_fn": "Identity"}),
        "Identity",
    ),
    "no k": (openai_with(activation_state_dict=None), "k of the activation.*found None"),
    "no bias": (openai_with(latent_bias=None), "holds no latent_bias"),
    "unknown norm": (llama_with(norm_activation="token-wise"), "token-wise"),
    "no mean": (llama_with(norm_activation="dataset-wise"), "'in' and 'out'"),
    "gelu": (llama_with(act_fn="gelu"), "gelu"),
    "a gated encoder": (llama_with(use_glu_encoder=True), "gated linear encoder"),
    "no level": (llama_with(jump_relu_threshold="x"), "must be a number, found 'x'"),
    "Gemma 2 of another architecture": (
        texts(params_DOT_safetensors="", config_DOT_json='{"architecture": "topk"}'),
        "'topk'.*jump_relu",
    ),
    "another normalisation": (
        with_settings("saelens_topk", normalize_activations="whiten"),
        "whiten.*layer_norm",
    ),
    "a normalised transcoder": (
        with_settings("saelens_transcoder", normalize_activations="layer_norm"),
        "a transcoder cannot have normalize='layer_norm'",
    ),
    "our file without settings": (
        texts(sae_DOT_safetensors="", config_DOT_json="{}"),
        "does not describe an autoencoder|not a complete",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_error(name, tmp_path):
    make, message = BAD[name]
    path = make(tmp_path / "x") or tmp_path / "x"
    with pytest.raises(InputError, match=message):
        load(path)
