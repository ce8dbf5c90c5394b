"""Quantise a GGUF file by llama.cpp's own function: ``python quantize_gguf.py FROM TO FORMAT``."""

import sys

import llama_cpp

source, target, form = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{form}")
params.allow_requantize = True  # the model's own file may be quantised already
params.nthread = 1
status = llama_cpp.llama_model_quantize(source.encode(), target.encode(), params)
if status:
    sys.exit(f"llama.cpp could not quantise {source} as {form} (status {status})")
