"""One side of ``language_peers.py``, in a process and an environment of its own.

    python language_worker.py KIND MODEL THREADS

Every line of the standard input is a request in JSON, and every answer is a line of JSON. KIND is
``llama.cpp``, with a GGUF file as MODEL, or ``openvino``, with a directory of a converted model.
"""

import json
import os
import sys
import time
from typing import Any, Protocol

import numpy as np

CONTEXT = 1024  # tokens of prompt and continuation


class Side(Protocol):
    """What a side can do."""

    def decode(self, prompt: list[int], count: int) -> float:
        """Milliseconds a token of a greedy continuation after the prompt; its mean."""

    def logits(self, window: list[int]) -> np.ndarray:
        """(length, vocabulary) float32 of a window."""


class LlamaCpp:
    """llama.cpp; its functions are called directly, without the loop of its Python binding."""

    def __init__(self, file: str, threads: int) -> None:
        import llama_cpp

        self.file, self.threads, self.library = file, threads, llama_cpp
        self.model = self._load(CONTEXT, all_logits=False)
        self.scorer: Any = None

    def _load(self, context: int, all_logits: bool) -> Any:
        return self.library.Llama(
            self.file,
            n_ctx=context,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            logits_all=all_logits,
            verbose=False,
        )

    def decode(self, prompt: list[int], count: int) -> float:
        self.model.reset()
        self.model.eval(prompt)
        token = (self.library.llama_token * 1)(self._best())
        start = time.perf_counter()
        for _ in range(count):
            batch = self.library.llama_batch_get_one(token, 1)
            if self.library.llama_decode(self.model.ctx, batch):
                raise RuntimeError("llama.cpp could not decode a token")
            token[0] = self._best()
        return 1e3 * (time.perf_counter() - start) / count

    def _best(self) -> int:
        logits = self.library.llama_get_logits_ith(self.model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.model.n_vocab(),)).argmax())

    def logits(self, window: list[int]) -> np.ndarray:
        if self.scorer is None:
            self.scorer = self._load(len(window), all_logits=True)
        self.scorer.reset()
        self.scorer.eval(window)
        return np.array(self.scorer.scores[: len(window)])


class OpenVINO:
    """OpenVINO GenAI; its logits come from the same converted model."""

    def __init__(self, folder: str, threads: int) -> None:
        import openvino_genai

        self.folder, self.library = folder, openvino_genai
        options = {"INFERENCE_NUM_THREADS": threads}
        self.pipeline = openvino_genai.LLMPipeline(folder, "CPU", **options)
        self.scorer: Any = None

    def decode(self, prompt: list[int], count: int) -> float:
        import openvino

        settings = self.library.GenerationConfig()
        settings.max_new_tokens, settings.ignore_eos, settings.do_sample = count + 1, True, False
        ids = np.array([prompt], dtype=np.int64)
        inputs = self.library.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
        )
        return float(self.pipeline.generate(inputs, settings).perf_metrics.get_tpot().mean)

    def logits(self, window: list[int]) -> np.ndarray:
        import torch
        from optimum.intel import OVModelForCausalLM

        if self.scorer is None:
            self.scorer = OVModelForCausalLM.from_pretrained(self.folder)
        ids = torch.tensor([window])
        output = self.scorer(input_ids=ids, attention_mask=torch.ones_like(ids))
        return output.logits[0].float().numpy()


KINDS = {"llama.cpp": LlamaCpp, "openvino": OpenVINO}


def serve(side: Side) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "decode":
            answer = {"ms": side.decode(request["prompt"], request["count"])}
        else:
            np.save(request["file"], side.logits(request["window"]))
            answer = {"file": request["file"]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    kind, model, threads = sys.argv[1:]
    serve(KINDS[kind](model, int(threads)))
