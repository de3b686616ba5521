"""What against_pytorch.py and targets.py share: the cases, how both sides are run, and the data set of the packed case.

A case is a line of options that `reasondistill bench` and pytorch_case.py both understand.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
BATCH_TOKENS = 5120  # of the packed case: as many as 8 x (512 + 128)

CASES = {
    "train-base-512": "train --shape flan-t5-base --batch 8 --enc 512 --dec 128",
    "train-base-128": "train --shape flan-t5-base --batch 8 --enc 128 --dec 128",
    "train-small-512": "train --shape flan-t5-small --batch 8 --enc 512 --dec 128",
    "train-small-128": "train --shape flan-t5-small --batch 8 --enc 128 --dec 128",
    "gsm8k-base": "train --shape flan-t5-base",  # and the options of data_options
    "gsm8k-small": "train --shape flan-t5-small",
    "decode-1-128": "generate --shape flan-t5-base --batch 1 --enc 128 --dec 64",
    "decode-1-512": "generate --shape flan-t5-base --batch 1 --enc 512 --dec 64",
    "decode-16-128": "generate --shape flan-t5-base --batch 16 --enc 128 --dec 64",
    "decode-16-512": "generate --shape flan-t5-base --batch 16 --enc 512 --dec 64",
    "encode-512": "encode --shape flan-t5-base --batch 1 --enc 512",
}
# Steps of one process after one to warm up: a process takes some ten seconds, rounds make the median.
STEPS = {"train-base-512": 1, "train-base-128": 2, "train-small-512": 2, "train-small-128": 4, "gsm8k-base": 4, "gsm8k-small": 8,
         "encode-512": 10}


def steps(case: str) -> int:
    return STEPS.get(case, 3)


class Failed(RuntimeError):
    pass


def run(command: list[str], prefix: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON object that a command writes as its last line."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "GOTO_", "MALLOC_"))}
    result = subprocess.run([*prefix, *command], capture_output=True, text=True, env={**clean, **(env or {})}, check=False)
    if result.returncode or not result.stdout.strip():
        raise Failed(f"{' '.join(command)}: exit {result.returncode}: {result.stderr[-800:]}")
    return json.loads(result.stdout.splitlines()[-1])


class Ours:
    def __init__(self, command: str, prefix: list[str]) -> None:
        self.command, self.prefix = str(Path(command).resolve()), prefix

    def bench(self, line: str, *more: object, env: dict[str, str] | None = None) -> dict[str, Any]:
        return run([self.command, "bench", *line.split(), *map(str, more)], self.prefix, env)

    def verb(self, *args: object, **more: Any) -> str:
        return subprocess.run([self.command, *map(str, args)], check=True, capture_output=True, text=True, **more).stdout


# ---- PyTorch ----

def make_venv(folder: Path) -> Path:
    """Python of a virtual environment that has torch and transformers; made if it is not there."""
    python = folder / "bin/python"
    if not python.exists():
        print(f"making {folder} with torch and transformers", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "torch", "transformers"], check=True)
    return python


class PyTorch:
    """Tuned: one OpenMP pool of as many threads as CPUs, memory that malloc keeps, and on other CPUs than Intel's an MKL that does not
    fall back to slow code there (it asks a function of its own, mkl_serv_intel_cpu_true, which a preloaded one answers)."""

    def __init__(self, venv: Path, prefix: list[str], work: Path, threads: int) -> None:
        self.python, self.prefix, self.threads = make_venv(venv), prefix, threads
        self.tuned = {"OMP_NUM_THREADS": str(threads), "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
                      "MALLOC_TOP_PAD_": str(1 << 28)}
        cc = shutil.which("cc") or shutil.which("gcc")
        if cc and platform.machine() == "x86_64" and "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
            library = work / "mkl_on_any_cpu.so"
            subprocess.run([cc, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)], input="int mkl_serv_intel_cpu_true(void) { return 1; }\n",
                           text=True, check=True)
            self.tuned["LD_PRELOAD"] = str(library)

    def case(self, line: str, *more: object, tuned: bool) -> dict[str, Any]:
        command = [str(self.python), str(HERE / "pytorch_case.py"), *line.split(), *map(str, more)]
        if tuned:
            return run([*command, "--tuned", "--threads", str(self.threads)], self.prefix, self.tuned)
        return run(command, self.prefix)


# ---- the packed case: GSM8K in the four formats ----

def _pieces(text: str) -> list[str]:
    """Text cut about as a teacher's tokenizer cuts it."""
    return re.findall(r" ?[A-Za-z]+| ?\d{1,3}|\s|[^\sA-Za-z\d]", text)


def make_gsm8k(ours: Ours, pack: Path, work: Path, questions: int = 2000) -> Path:
    """A data set folder made by the command's verbs from the original file: the human solutions stand for a teacher's replies."""
    data = work / "gsm8k"
    if data.exists():
        return data
    with open(work / "questions.jsonl", "w") as q, open(work / "teacher.jsonl", "w") as t:
        lines = (pack / "original/gsm8k/train.jsonl").read_text().splitlines()[:questions]
        for i, line in enumerate(lines):
            item = json.loads(line)
            rationale, answer = re.sub(r"<<.*?>>", "", item["answer"]).split("\n#### ")
            answer = answer.replace(",", "").strip()
            q.write(json.dumps({"id": f"q{i}", "question": item["question"], "answer": answer, "rationale": rationale}) + "\n")
            text = f"{rationale}\nThe answer is {answer}."
            tokens = _pieces(text)
            t.write(json.dumps({"id": f"q{i}", "sample": 0, "request_sha256": "0" * 64, "model": "human", "question": item["question"],
                                "text": text, "tokens": tokens, "logprobs": [-0.1] * len(tokens),
                                "top": [[[token, -0.1]] for token in tokens], "finish": "stop", "usage": None, "correct": True}) + "\n")
    ours.verb("align", "--tokenizer", pack / "tokenizer/spiece.model", "--in", work / "teacher.jsonl", "--out", work / "aligned.rsd")
    ours.verb("build", "--questions", work / "questions.jsonl", "--in", work / "aligned.rsd", "--out", data)
    return data


def data_options(pack: Path, data: Path) -> list[object]:
    return ["--data", data, "--tokenizer", pack / "tokenizer/spiece.model", "--batch-tokens", BATCH_TOKENS, "--equal"]


def find_library(command: str) -> str | None:
    """libreasondistill of the build, or of the installation, that the command is of."""
    above = Path(command).resolve().parent.parent
    found = [*above.glob("libreasondistill.so.0"), *above.glob("lib/**/libreasondistill.so.0")]
    return str(found[0]) if found else None


def binding(command: str) -> ModuleType:
    """The Python package with the library that belongs to the command."""
    library = find_library(command)
    if library:
        os.environ.setdefault("REASONDISTILL_LIBRARY", library)
    sys.path.insert(0, str(HERE.parents[1] / "bindings/python"))
    return importlib.import_module("reasondistill")


def write_items(command: str, pack: Path, data: Path, out: Path, batches: int) -> Path:
    """The sequences of our first packed batches as a list of {enc, dec} ids: the same items, for a peer that draws and pads them."""
    rsd = binding(command)
    items: list[dict[str, list[int]]] = []
    with rsd.Context(threads=1) as ctx:
        tokenizer = rsd.Tokenizer(ctx, pack / "tokenizer/spiece.model")
        dataset = rsd.Dataset(ctx, data, tokenizer, batch_tokens=BATCH_TOKENS)
        for index in range(batches):
            b = dataset.batch(index).arrays
            sides = [[ids[begin:end].tolist() for begin, end in zip(offsets, offsets[1:])]
                     for ids, offsets in ((b["enc_ids"], b["enc_offsets"]), (b["dec_ids"], b["dec_offsets"]))]
            items += [{"enc": enc, "dec": dec} for enc, dec in zip(*sides)]
    random.Random(1).shuffle(items)
    out.write_text(json.dumps(items))
    return out


# ---- figures ----

def median_of(results: list[dict[str, Any]], key: str = "seconds") -> float:
    return statistics.median(r[key] for r in results)


def interleaved(rounds: int, variants: dict[str, Callable[[], dict[str, Any]]],
                contest: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs each variant once a round, in turns. Of the variants named in `contest` only the fastest of the first round goes on."""
    alive = dict(variants)
    seconds: dict[str, float] = {}
    for number in range(rounds):
        for name, fn in list(alive.items()):
            result = fn()
            seconds.setdefault(name, result["seconds"])
            yield name, result
        if number == 0 and contest:
            best = min((c for c in contest if c in alive), key=lambda c: seconds[c])
            alive = {name: fn for name, fn in alive.items() if name not in contest or name == best}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows])


def machine() -> str:
    name = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    return f"{name}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
