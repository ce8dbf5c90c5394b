"""A language model and a tokenizer of a few words, made without a network."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

TEXT = [
    *("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while"),
    *("seven", "wise", "owls", "read", "by", "moonlight"),
]
SIZE = 32  # of the vocabulary: some tokens have no word


WORDS = ["<s>", "<unk>", *(f"w{number}" for number in range(38))]
WIDTH = 16


def llama(**changes: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": SIZE,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,  # that zeros are felt
    }
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": SIZE, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()


def tokenizer(words: Sequence[str] = ("<s>", "<unk>", *TEXT)) -> Fast:
    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return Fast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>", pad_token="<unk>")


def save_model(folder: Path, model: torch.nn.Module | None = None) -> Path:
    (model or llama()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_tiny_model(path: Path) -> Path:
    """Llama of three layers, with `WORDS`."""
    model = llama(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        bos_token_id=0,
        pad_token_id=1,
        initializer_range=0.2,
    )
    save_model(path, model)
    tokenizer(WORDS).save_pretrained(path)
    return path
