import pytest
import torch
from transformers import BertConfig, BertModel

from sparsact._common.errors import InputError
from sparsact.text import load_language_model
from tiny_language import llama, tokenizer


def test_a_model_in_a_directory(tiny):
    model, words = load_language_model(str(tiny))
    assert torch.equal(model.lm_head.weight, llama().lm_head.weight)
    assert words("the quick")["input_ids"] == [2, 3]


def test_paths_without_a_model(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory \./nowhere"):
        load_language_model("./nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_language_model(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no file x\.gguf"):
        load_language_model(str(tiny), "x.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileNotFoundError, match=r"gguf=a\.gguf"):
        load_language_model(str(tmp_path))
    with pytest.raises(InputError, match="the file as gguf="):
        load_language_model(str(tmp_path / "a.gguf"))


def test_a_name_that_the_hub_does_not_have(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="no model 'nobody/nothing'"):
        load_language_model("nobody/nothing")


def test_a_model_that_is_not_a_language_model(tmp_path):
    config = BertConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a causal language model but a BertModel"):
        load_language_model(str(tmp_path))


def test_damaged_weights(tiny, tmp_path):
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_language_model(str(tmp_path))


def test_progress_bars_of_transformers_are_only_hidden_while_loading(tiny):
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    load_language_model(str(tiny))
    assert logging.is_progress_bar_enabled() == enabled
