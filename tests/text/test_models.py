import pytest
import torch
from transformers import BertConfig, BertModel

from sparsact.text.models import open_model
from tiny_language import llama, tokenizer


def test_a_directory(tiny):
    model, words = open_model(str(tiny))
    assert torch.equal(model.lm_head.weight, llama().lm_head.weight)
    assert words("the quick")["input_ids"] == [2, 3]


def test_models_that_are_none(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory \./nowhere"):
        open_model("./nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        open_model(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no file x\.gguf"):
        open_model(str(tiny), "x.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileNotFoundError, match=r"--gguf a\.gguf"):
        open_model(str(tmp_path))
    with pytest.raises(NotADirectoryError, match="the file as --gguf"):
        open_model(str(tmp_path / "a.gguf"))


def test_a_name_that_the_hub_does_not_give(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="no model 'nobody/nothing'"):
        open_model("nobody/nothing")


def test_a_model_that_is_no_language_model(tmp_path):
    config = BertConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no causal language model: it holds a BertModel"):
        open_model(str(tmp_path))
