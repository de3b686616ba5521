"""What is trained and tested: the sizes, the budgets, and the parts of which the eight entries of paper.json are made.

All training follows one recipe (AdamW, linear decay to zero, batches of 4096 tokens); within a comparison only the thing compared differs, and the number of
steps is the same. Steps are chosen so that twice as many would gain little: every size is trained once more with half of them, and a size that gains more than
`PLATEAU` from the second half is marked as undertrained (results.py).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Iterable

from lab import Lab, Part, checksum, read_json, write_json

HERE = Path(__file__).resolve().parent
# Shares of the items; an in-context item is three times as long, so that the in-context formats are a third of the tokens.
FORMATS = {"zs-ao": 0.5, "zs-cot": 2.0, "ic-ao": 0.125, "ic-cot": 0.375}
ZERO_SHOT = {"zs-ao": 0.5, "zs-cot": 2.0}
IN_CONTEXT = {"ic-ao": 0.5, "ic-cot": 2.0}
MAX_TOKENS = 80  # of one output; solutions have at most 60
# Word problems to test on that differ from those trained on: in words, in number of steps, in which operations follow each other.
OTHER_PROBLEMS = {
    "wording": ["--wording", "other"],
    "longer": ["--kinds", "S-+-+ S+*-+ P-+-+ PQ-+ S*-+- S+-+/"],
    "operations": ["--kinds", "S-* P* S** S*/ P*+ P*- S-*+ S**-"],
}


@dataclass(frozen=True)
class Scale:
    """How much is done. Times are those of two quiet cores; --help says them."""

    widths: tuple[int, ...]  # d_model of the sizes, two layers each side; parameters follow (0.03 M at 16, 0.26 M at 64)
    middle: int  # the width at which things are compared
    seeds: tuple[int, ...] = (1, 2, 3)
    generic_steps: int = 2000
    steps: int = 2000
    problems: int = 12000
    tasks: int = 3000  # generic questions of each kind
    test: int = 300  # word problems in a test set
    generic_test: int = 50  # questions of each kind in the generic test set
    kinds: str = ""  # word problems of these kinds instead of the usual ones
    batch_tokens: int = 4096
    points: int = 20  # development points along a run
    alphas: tuple[float, ...] = tuple(i / 10 for i in range(11))
    layers: dict[int, int] = field(default_factory=dict)  # width to layers a side where it is not two


SCALES = {
    "tiny": Scale(widths=(8, 12), middle=12, seeds=(1,), generic_steps=8, steps=8, problems=300, tasks=60, test=20, generic_test=4, batch_tokens=512, points=2,
                  alphas=(0, 0.5, 1)),
    "quick": Scale(widths=(16, 24, 32, 48), middle=32, generic_steps=1500, steps=1200, problems=8000, tasks=2000, test=200, generic_test=30, batch_tokens=2048,
                   points=8, alphas=(0, 0.25, 0.5, 0.75, 1)),
    "default": Scale(widths=(16, 24, 32, 48, 64), middle=48, generic_steps=4000, steps=2200),
    "full": Scale(widths=(16, 24, 48, 64, 128, 256, 320), middle=64, generic_steps=6000, steps=5000, problems=40000, tasks=10000, test=1000, generic_test=200,
                  kinds="S+- S-+ P+- P-+ PQ S*+- S*-+ S+*- S+-+ S-+- PQ+ PQ- S-+-+ S*-+- P+-+ P-+-", layers={128: 3, 256: 4, 320: 4}),
}


def rate(width: int) -> float:
    """Peak learning rate: 5e-3 suits a width of 64; wider models need less."""
    return min(1e-2, 0.32 / width)


# ---- shapes ----


def shape(width: int, encoder: int, decoder: int, vocab: int, hidden: int | None = None) -> dict:
    """config.json of a T5 v1.1 without dropout."""
    heads = 2 if width < 32 else 4 if width < 128 else width // 32
    return {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": width, "d_kv": -(-width // heads), "d_ff": hidden or 2 * width,
            "num_layers": encoder, "num_decoder_layers": decoder, "num_heads": heads, "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128, "dropout_rate": 0.0, "layer_norm_epsilon": 1e-6, "initializer_factor": 1.0,
            "feed_forward_proj": "gated-gelu", "is_encoder_decoder": True, "use_cache": True, "tie_word_embeddings": False, "vocab_size": vocab,
            "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def parameters(c: dict) -> int:
    inner, d, ff = c["num_heads"] * c["d_kv"], c["d_model"], c["d_ff"]
    layer = 4 * d * inner + 3 * d * ff + 2 * d
    return (2 * c["vocab_size"] * d + c["num_layers"] * layer + c["num_decoder_layers"] * (layer + 4 * d * inner + d) + 2 * d
            + 2 * c["relative_attention_num_buckets"] * c["num_heads"])


def equal(target: dict, width: int, encoder: int, decoder: int) -> dict:
    """A shape of that width and depth with as many parameters as `target`, by its feed-forward layers' width."""
    return min((shape(width, encoder, decoder, target["vocab_size"], hidden) for hidden in range(2, 8 * width)),
               key=lambda c: abs(parameters(c) - parameters(target)))


def architectures(width: int, vocab: int) -> dict[str, dict]:
    """The arms of the comparison at equal parameters: depth against width, encoder against decoder."""
    base = shape(width, 2, 2, vocab)
    narrow = max(w for w in range(4, width, 4) if parameters(shape(w, 4, 4, vocab, 2)) < parameters(base) and w <= 0.8 * width)
    wide = min(w for w in range(width + 4, 3 * width, 4) if w >= 1.2 * width)
    return {"2+2": base, "4+4, narrower": equal(base, narrow, 4, 4), "1+1, wider": equal(base, wide, 1, 1), "3+1": equal(base, width, 3, 1),
            "1+3": equal(base, width, 1, 3)}


# ---- what a part should take: seconds of one of two quiet cores with AVX-512, from measured steps ----


def cost_of_training(c: dict, parameters: int) -> float:
    return c["steps"] * (0.012 + 7.5e-8 * parameters) * c["batch_tokens"] / 4096 + c["points"] * 0.35


# ---- the work of each kind of part ----


def relative(path: Path, part: Part) -> str:
    return os.path.relpath(path, part.folder)


def make_data(part: Part) -> dict:
    """Generic tasks, word problems, other word problems; the teachers' replies to both, aligned; data sets of each and of both together."""
    c, f = part.config, part.folder
    shutil.rmtree(f / "other", ignore_errors=True)
    (f / "other").mkdir(parents=True)
    part.run(part.lab.python, HERE / "tasks.py", "--out", "generic", "--train", c["tasks"], "--dev", 30, "--test", c["generic_test"])
    words = (f / "generic" / "words.txt").read_text(encoding="utf-8")
    for i, (name, options) in enumerate(OTHER_PROBLEMS.items()):
        part.run("wordproblems", "--out", f"other/{name}", "--problems", 0, "--heldout", 2 * c["test"],
                 "--seed", 100 + i, *options)
        words += _words(f / "other" / name / "heldout.jsonl")
    (f / "words.txt").write_text(words, encoding="utf-8")
    kinds = ["--kinds", c["kinds"]] if c["kinds"] else []
    part.run("wordproblems", "--out", "target", "--problems", c["problems"], "--heldout", 2 * c["test"], "--words", "words.txt", *kinds)
    for name in ("target", *(f"other/{n}" for n in OTHER_PROBLEMS)):
        lines = (f / name / "heldout.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (f / name / "dev.jsonl").write_text("".join(lines[: c["test"]]), encoding="utf-8")
        (f / name / "test.jsonl").write_text("".join(lines[c["test"]:]), encoding="utf-8")
    for name in ("generic", "target"):
        part.run("reasondistill", "collect", "--questions", f"{name}/train.jsonl", "--teacher", f"replay:{name}/replies.jsonl", "--out", f"{name}/teacher.jsonl")
    _mixture(f, c["problems"])
    held = [x for file in sorted({SETS[name][1] for name in SETS if SETS[name][0] == "jsonl"}) for x in ("--hold-out", file)]
    for name in ("generic", "target", "both"):
        shutil.rmtree(f / name / "data", ignore_errors=True)
        part.run("reasondistill", "align", "--tokenizer", "target/spiece.model", "--in", f"{name}/teacher.jsonl", "--out", f"{name}/aligned.rsd")
        part.run("reasondistill", "build", "--questions", f"{name}/train.jsonl", "--in", f"{name}/aligned.rsd", "--shots", 2, *held, "--out", f"{name}/data")
    return {"vocab": read_json(f / "target" / "config.json")["vocab_size"]}


def _words(path: Path) -> str:
    """Questions without their numbers, one a line."""
    return "".join(" ".join(w for w in json.loads(row)["question"].split() if not any(ch.isdigit() for ch in w)) + "\n"
                   for row in path.read_text(encoding="utf-8").splitlines())


def _mixture(folder: Path, problems: int) -> None:
    """The word problems, and a seventh as many generic questions: the rehearsal is an eighth of all."""
    (folder / "both").mkdir(exist_ok=True)
    for name in ("train.jsonl", "teacher.jsonl"):
        generic = (folder / "generic" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        kept = {json.loads(row)["id"] for row in (folder / "generic" / "train.jsonl").read_text(encoding="utf-8").splitlines()[: problems // 7]}
        rows = [row for row in generic if json.loads(row)["id"] in kept]
        (folder / "both" / name).write_text((folder / "target" / name).read_text(encoding="utf-8") + "".join(rows), encoding="utf-8")


def train(part: Part) -> dict:
    c, f = part.config, part.folder
    data = part.needs[0].folder
    if "start" in c:  # another model, as it is or with fewer layers
        start = model_of(part.needs[1])
        if c["start"] == "layers":
            if not (f / "student").is_dir():
                part.run("reasondistill", "init", "--from", relative(start, part), "--layers", c["layers"], "--out", "student")
            start = f / "student"
    else:
        start = f / "student"
        if not start.is_dir():
            write_json(f / "config.json", c["shape"])
            part.run("reasondistill", "init", "--config", "config.json", "--tokenizer", relative(data / "target" / "spiece.model", part), "--seed", c["seed"],
                     "--out", "student")
    every = max(1, c["steps"] // c["points"])
    generic_dev = {"task": "bbh", "data": relative(data / "generic" / "dev", part), "format": "zs-cot", "max_tokens": MAX_TOKENS, "batch": 64, "kind": "id" if c["data"] == "generic" else "ood",
                   "name": "generic"}
    target_dev = {"task": "jsonl", "data": relative(data / "target" / "dev.jsonl", part), "format": "zs-cot", "max_tokens": MAX_TOKENS, "batch": 64, "name": "target"}
    run = {"model": relative(start, part), "data": relative(data / c["data"] / "data", part), "out": "run", "formats": c["formats"], "loss": c["loss"],
           "steps": c["steps"], "batch_tokens": c["batch_tokens"], "optimizer": "adamw", "lr": c["lr"], "beta2": 0.98, "schedule": "linear", "warmup": 0.05, "clip": 1,
           "threads": 1, "seed": c["seed"], "share_batches": 0, "log_every": max(1, c["steps"] // 100), "save_every": max(1, c["steps"] // c["checkpoints"]),
           "keep": 0 if c["checkpoints"] > 1 else 1, "eval_every": every, "eval_start": True,
           "eval": [generic_dev] if c["data"] == "generic" else [target_dev, generic_dev]}
    write_json(f / "run.json", run)
    part.run("reasondistill", "train", "run.json", *(["--resume"] if (f / "run" / "run.json").is_file() else []))
    info = json.loads(part.run("reasondistill", "info", "--model", relative(model_of(part), part)))
    rows = [json.loads(row) for row in (f / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = [m for m in rows if "grad_norm" in m]  # the steps; the other lines are evaluations
    return {"parameters": info["parameters"]["total"], "loss": metrics[-1]["loss"], "train_seconds": round(median(m["seconds"] for m in metrics) * c["steps"], 1),
            "curve": {name: curve(f / "run" / "eval", name) for name in ("target", "generic")}, "right": right_along(f / "run" / "eval", "target")}


def right_along(folder: Path, name: str) -> list[str]:
    """Which items were right at each point of the curve, as figures_of says it."""
    files = sorted(folder.glob(f"step-*-{name}.json"), key=lambda p: int(p.name.split("-")[1]))
    return ["".join("01"[i["correct"]] for i in read_json(p)["items"]) for p in files]


def curve(folder: Path, name: str) -> list[list[float]]:
    """[[step, accuracy], ...] of the evaluations made while training."""
    points = [(int(p.name.split("-")[1]), read_json(p)["accuracy"]) for p in folder.glob(f"step-*-{name}.json")]
    return [list(p) for p in sorted(points)]


def model_of(part: Part) -> Path:
    return part.folder / "run" / "checkpoints" / f"step-{part.config['steps']}"


# name: (task, file below the data folder, format, other options); the suites of measure()
SETS = {
    "target": ("jsonl", "target/test.jsonl", "zs-cot"),
    "target ic": ("jsonl", "target/test.jsonl", "ic-cot"),
    **{name: ("jsonl", f"other/{name}/test.jsonl", "zs-cot") for name in OTHER_PROBLEMS},
    "generic": ("bbh", "generic/test", "zs-cot"),
    "generic ao": ("bbh", "generic/test", "zs-ao"),
    "target dev": ("jsonl", "target/dev.jsonl", "zs-cot"),
    **{f"{name} dev": ("jsonl", f"other/{name}/dev.jsonl", "zs-cot") for name in OTHER_PROBLEMS},
}
OTHERS = tuple(OTHER_PROBLEMS)
TEST = ("target", "target ic", *OTHERS, "generic", "generic ao")


def set_options(part: Part, roles: dict[str, str]) -> list[object]:
    """--id, --ood and --test of select and sweep; every set under its name, blanks as hyphens."""
    data = part.needs[0].folder
    options: list[object] = []
    for name, role in roles.items():
        task, file, fmt = SETS[name]
        options += [f"--{role}", f"{name.replace(' ', '-')}={task}:{fmt}:{relative(data / file, part)}"]
    return [*options, "--demos", relative(data / "target" / "train.jsonl", part), "--shots", 2, "--max-tokens", MAX_TOKENS, "--batch", 64, "--threads", 1, "--no-perplexity"]


def figures_of(e: dict) -> dict:
    """Of what eval wrote: accuracy, and for each item whether it was right (for the bootstrap; '1' and '0' in the order of the items)."""
    return {"accuracy": e["accuracy"], "n": e["n"], "low": e["low"], "high": e["high"], "no_answer": e["no_answer"],
            "tasks": {t["task"]: t["accuracy"] for t in e.get("tasks", [])}, "right": "".join("01"[i["correct"]] for i in e["items"])}


def measure(part: Part) -> dict:
    """A model on every set of the suite."""
    data, model = part.needs[0].folder, model_of(part.needs[1])
    figures = {}
    for name in part.config["sets"]:
        task, file, fmt = SETS[name]
        out = part.folder / (name.replace(" ", "-") + ".json")
        if not out.is_file():
            demos = ["--demos", relative(data / "target" / "train.jsonl", part), "--shots", 2] if fmt.startswith("ic-") else []
            part.run("reasondistill", "eval", "--model", relative(model, part), "--task", task, "--data", relative(data / file, part), "--format", fmt, *demos,
                     "--max-tokens", MAX_TOKENS, "--batch", 64, "--threads", 1, "--no-perplexity", "--out", out.name)
        figures[name] = figures_of(read_json(out))
    return figures


def select(part: Part) -> dict:
    """All checkpoints of a run on the development and test sets, and what each rule takes."""
    run = part.needs[1].folder / "run"
    roles = {"target dev": "id"} | {f"{name} dev": "ood" for name in OTHER_PROBLEMS} | {name: "test" for name in TEST}
    part.run("reasondistill", "select", relative(run, part), *set_options(part, roles), "--cache", "cache", "--out", "select.json")
    return {"rules": {rule["rule"]: rule["x"] for rule in read_json(part.folder / "select.json")["rules"]}, "points": by_point(part, roles, "step")}


def sweep(part: Part) -> dict:
    """The models between the generic and the specialised one."""
    base, tuned = (relative(model_of(p), part) for p in part.needs[1:3])
    roles = {name: "id" if name == "target" else "test" if "ic" in name.split() else "ood" for name in TEST}
    part.run("reasondistill", "sweep", "--base", base, "--tuned", tuned, "--alphas", ",".join(f"{a:g}" for a in part.config["alphas"]), *set_options(part, roles), "--cache",
             "cache", "--out", "sweep.json")
    return {"points": by_point(part, roles, "alpha")}


def by_point(part: Part, names: Iterable[str], what: str) -> dict:
    """{"150": {set: figures}}: the evaluations that select and sweep have kept, found by the file that was tested and its format."""
    data = part.needs[0].folder
    places = {(os.path.normpath(relative(data / SETS[name][1], part)), SETS[name][2]): name for name in names}
    points: dict[str, dict] = {}
    for path in sorted((part.folder / "cache").glob(f"{what}-*.json")):
        e = read_json(path)
        points.setdefault(path.name.split("-")[1], {})[places[os.path.normpath(e["data"]), e["format"]]] = figures_of(e)
    return points


def fit(part: Part) -> dict:
    """Lines through accuracy against log10 parameters by `reasondistill scaling`, all seeds of a size together."""
    rows = []
    for series, sets, tests in part.config["series"]:
        for i, width in enumerate(part.config["widths"]):
            own = [part.needs[n] for n in tests[i]]
            right = "".join(p.figures[name]["right"] for p in own for name in sets)
            rows.append({"series": series, "parameters": part.config["parameters"][i], "correct": right.count("1"), "n": len(right)})
    (part.folder / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    part.run("reasondistill", "scaling", "--in", "points.jsonl", "--out", "fits.json")
    return {"fits": read_json(part.folder / "fits.json")["fits"]}


# ---- the parts ----


class Plan:
    """All parts of a scale, by what they are for. `order` is the order in which they run."""

    def __init__(self, lab: Lab, scale: Scale) -> None:
        self.lab, self.scale = lab, scale
        sources = checksum([(HERE / "tasks.py").read_text(encoding="utf-8"), lab.generator])
        self.data = lab.part("data", {"kind": "data", "tasks": scale.tasks, "problems": scale.problems, "test": scale.test, "generic_test": scale.generic_test,
                                      "kinds": scale.kinds, "others": OTHER_PROBLEMS, "sources": sources}, [], make_data)
        self.order: list[Part] = [self.data]
        self.tests: dict[str, Part] = {}

    def lay_out(self) -> None:
        """Needs the data part: its vocabulary is part of every shape."""
        s, seeds = self.scale, self.scale.seeds
        self.vocab = self.data.figures["vocab"]
        self.generic = {(w, k): self._train(f"generic-{w}-{k}", "generic", w, k) for w in s.widths for k in seeds}
        self.special = {(w, k): self._special(f"special-{w}-{k}", w, k, checkpoints=8 if w == s.middle else 1) for w in s.widths for k in seeds}
        m, first = s.middle, seeds[0]
        arms: dict[str, dict[int, Part]] = {"all formats, distribution": {k: self.special[m, k] for k in seeds}}
        arms["sample matching"] = {k: self._special(f"sample-{m}-{k}", m, k, loss="ce") for k in seeds}
        arms["from random weights"] = {k: self._train(f"random-{m}-{k}", "target", m, k) for k in seeds}
        arms["zero-shot only"] = {k: self._special(f"zeroshot-{m}-{k}", m, k, formats=ZERO_SHOT) for k in seeds}
        arms["in-context only"] = {k: self._special(f"incontext-{m}-{k}", m, k, formats=IN_CONTEXT) for k in seeds}
        arms["with rehearsal"] = {k: self._special(f"rehearsal-{m}-{k}", m, k, data="both") for k in seeds}
        self.shapes = architectures(m, self.vocab)
        for i, (name, c) in enumerate(self.shapes.items()):
            arms[name] = arms["from random weights"] if name == "2+2" else {
                k: self._train(f"shape{i}-{m}-{k}", "target", m, k, shape=c) for k in seeds}
        arms["1+1 of the generic 2+2"] = {k: self._special(f"shallow-{m}-{k}", m, k, start="layers", layers="1,1") for k in seeds}
        arms["1+1 from random weights"] = {k: self._train(f"small-{m}-{k}", "target", m, k, shape=shape(m, 1, 1, self.vocab)) for k in seeds}
        self.arms = arms
        self.half = {w: (self._train(f"halfgeneric-{w}", "generic", w, first, steps=s.generic_steps // 2),
                         self._special(f"halfspecial-{w}", w, first, steps=s.steps // 2)) for w in s.widths}
        self.sweeps = {k: self.lab.part(f"sweep-{m}-{k}", {"kind": "sweep", "alphas": list(s.alphas)}, [self.data, self.generic[m, k], self.special[m, k]], sweep, cost=12) for k in seeds}
        self.selects = {k: self.lab.part(f"select-{m}-{k}", {"kind": "select"}, [self.data, self.special[m, k]], select, cost=13) for k in seeds}
        # The middle size with its comparisons, then the other sizes, small ones first; tests follow what they test.
        for k in seeds:
            self._then(self.generic[m, k], TEST)
            self._then(self.special[m, k], TEST)
        self.order += [part for k in seeds for part in (self.selects[k], self.sweeps[k])]
        for name, by_seed in arms.items():
            for part in by_seed.values():
                if part not in self.order:
                    self._then(part, TEST)
        for w in s.widths:
            for k in seeds:
                if w != m:
                    self._then(self.generic[w, k], TEST)
                    self._then(self.special[w, k], TEST)
            self.order += self.half[w]
        self.order.append(self._fit())

    def _fit(self) -> Part:
        s, needs, series = self.scale, [], []
        for what, models, sets in (("target before", self.generic, ["target"]), ("target after", self.special, ["target"]), ("others after", self.special, list(OTHERS)),
                                   ("generic before", self.generic, ["generic"]), ("generic after", self.special, ["generic"])):
            at = []
            for w in s.widths:
                at.append(list(range(len(needs), len(needs) + len(s.seeds))))
                needs += [self.test_of(models[w, k]) for k in s.seeds]
            series.append([what, sets, at])
        shapes = [shape(w, self._layers(w), self._layers(w), self.vocab) for w in s.widths]
        self.fit = self.lab.part("fit", {"kind": "fit", "series": series, "widths": list(s.widths), "parameters": [parameters(c) for c in shapes]}, needs, fit)
        return self.fit

    def _layers(self, width: int) -> int:
        return self.scale.layers.get(width, 2)

    def test_of(self, part: Part) -> Part:
        return self.tests[part.key]

    def _train(self, name: str, data: str, width: int, seed: int, **changes: object) -> Part:
        config, needs = self._config(data, width, seed, changes), [self.data]
        config.setdefault("shape", shape(width, self._layers(width), self._layers(width), self.vocab))
        return self.lab.part(name, config, needs, train, cost_of_training(config, parameters(config["shape"])))

    def _special(self, name: str, width: int, seed: int, data: str = "target", **changes: object) -> Part:
        config = {"start": "model", **self._config(data, width, seed, changes)}
        return self.lab.part(name, config, [self.data, self.generic[width, seed]], train, cost_of_training(config, parameters(self.generic[width, seed].config["shape"])))

    def _config(self, data: str, width: int, seed: int, changes: dict) -> dict:
        s = self.scale
        return {"kind": "train", "data": data, "width": width, "seed": seed, "formats": FORMATS, "loss": "kl", "lr": rate(width),
                "steps": s.generic_steps if data == "generic" else s.steps, "batch_tokens": s.batch_tokens, "points": s.points, "checkpoints": 1, **changes}

    def _then(self, part: Part, sets: tuple[str, ...]) -> None:
        if part not in self.order:
            self.order.append(part)
        test = self.lab.part(f"test-{part.name}", {"kind": "measure", "sets": list(sets)}, [self.data, part], measure)
        self.tests[part.key] = test
        if test not in self.order:
            self.order.append(test)


def settings(scale: Scale) -> dict:
    return {**asdict(scale), "formats": FORMATS, "max_tokens": MAX_TOKENS, "rates": {w: rate(w) for w in scale.widths}}
