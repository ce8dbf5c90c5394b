"""A random language model of 40 words with its tokenizer, as files that transformers reads."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["<s>", "<unk>", *(f"w{number}" for number in range(38))]
WIDTH = 16


def save_tiny_model(path: Path) -> Path:
    """Llama of three layers."""
    words = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=0,
        pad_token_id=1,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path
