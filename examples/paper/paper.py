"""The driver behind examples/paper.sh, which see: lays out the parts of the experiment, runs what is not finished, and writes paper.json."""

from __future__ import annotations

import argparse
import datetime
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab import Failed, Lab, Part, Stopped, read_json, write_json
from pictures import draw
from plan import SCALES, Plan, settings
from results import Results
from tables import markdown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def output_of(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def generator_digest() -> str:
    """Of the sources of wordproblems: other problems, other data."""
    text = b"".join(p.read_bytes() for p in sorted((HERE.parent / "wordproblems").glob("*.[ch]")))
    return hashlib.sha256(text).hexdigest()


def build() -> str:
    """Version and checksum of the command in use: parts of one experiment may come from several builds, and paper.json says so."""
    command = shutil.which("reasondistill")
    if not command:
        raise Failed("the command reasondistill is not in the path")
    return f"{output_of(command, '--version')} {hashlib.sha256(Path(command).read_bytes()).hexdigest()[:12]}"


def processor() -> str:
    try:
        return next(row.split(":", 1)[1].strip() for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def show(part: Part) -> None:
    """What a finished test has measured, in a line."""
    if part.config.get("kind") == "measure":
        print("      " + ", ".join(f"{name} {100 * f['accuracy']:.1f} %" for name, f in part.figures.items()), flush=True)
    elif part.config.get("kind") == "train":
        f = part.figures
        print(f"      {f['parameters']:,} parameters, loss {f['loss']:.3f}, development " + ", ".join(
            f"{name} {100 * c[-1][1]:.1f} %" for name, c in f["curve"].items() if c), flush=True)


def write_paper(plan: Plan, scale: str, command: str) -> list[dict]:
    """paper.json from the parts that are finished."""
    results = Results(plan)
    entries, beside = results.entries(), results.beside()
    done = [p for p in plan.order if p.done]
    paper = {
        "what": "The paper in miniature: specialising small T5 models to word problems (after Fu et al. 2023), measured by examples/paper.sh",
        "command": command, "scale": scale, "settings": settings(plan.scale), "commit": output_of("git", "rev-parse", "--short", "HEAD"),
        "builds": sorted({p.record["build"] for p in done}), "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{processor()}, {os.cpu_count()} CPUs", "workers": plan.lab.workers,
        "parts": {"finished": len(done), "of": len(plan.order), "seconds_of_one_thread": round(sum(p.record["seconds"] for p in done))},
        "intervals": "95 %, percentile bootstrap over seeds and items", "entries": entries, "beside": beside}
    write_json(plan.lab.out / "paper.json", paper)
    (plan.lab.out / "paper.md").write_text(markdown(paper), encoding="utf-8")
    for entry in entries + beside:
        draw(entry, plan.lab.out / "pictures")
    return entries + beside


def write_report(plan: Plan) -> None:
    """report.html: the entries; curves, settings and outputs of one specialised run; its checkpoints; how its first reply was aligned. Without matplotlib there is none."""
    out, k = plan.lab.out, plan.scale.seeds[0]
    special, target = plan.special[plan.scale.middle, k].folder, plan.data.folder / "target"
    reply, heat = out / ".reply.jsonl", out / "alignment.jsonl"
    with (target / "teacher.jsonl").open(encoding="utf-8") as f:
        reply.write_text(f.readline(), encoding="utf-8")
    plan.lab.command(out, ["reasondistill", "align", "--tokenizer", str(target / "spiece.model"), "--in", reply.name, "--heatmap", heat.name])
    reply.unlink()
    package = os.pathsep.join([str(ROOT / "bindings" / "python"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-m", "reasondistill.report", out / "paper.json", special / "run", plan.selects[k].folder / "select.json", heat,
                           "--title", "The paper in miniature", "--out", out / "report.html"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package})
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    print(said if done.returncode == 0 else f"no report.html: {said}", flush=True)


def print_entries(entries: list[dict]) -> None:
    for e in entries:
        if e["state"] != "complete":
            print(f"\n({e['id']}) {e['key']}: waits for {e['waits_for']}")
            continue
        print(f"\n({e['id']}) {e['title']}\n    {e['question']}")
        for sentence in e["summary"]:
            print(f"    {sentence}")
        print(f"    The paper: {e['paper']}" + {True: " The same here.", False: " Not so here.", None: ""}[e["agrees"]])


def main() -> int:
    p = argparse.ArgumentParser(prog="sh examples/paper.sh", add_help=False)
    p.add_argument("--scale", choices=sorted(SCALES), default="default")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    a = p.parse_args()
    out = a.out.resolve()
    mark = out / ".paper"
    if out.exists() and not mark.exists() and any(out.iterdir()):
        print(f"paper: {out} is there and not from an earlier run: choose another with --out", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    lock = mark.open("a")  # held as long as this process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"paper: another process is at work in {out}", file=sys.stderr)
        return 1

    begin = time.monotonic()
    lab = Lab(out, a.workers, build(), lambda text: print(text, flush=True))
    lab.python, lab.generator = sys.executable, generator_digest()
    signal.signal(signal.SIGINT, lab.stop)
    signal.signal(signal.SIGTERM, lab.stop)
    lab.wait_for_orphans()
    plan = Plan(lab, SCALES[a.scale])
    command = "sh examples/paper.sh" + ("" if a.scale == "default" else f" --{a.scale}")
    try:
        lab.run([plan.data], show)
        plan.lay_out()
        lab.run(plan.order, show)
    except Stopped:
        print(f"paper: stopped; the same command goes on: {command} --out {a.out}", file=sys.stderr)
        return 130
    except Failed as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    entries = write_paper(plan, a.scale, command)
    print_entries(entries)
    print()
    try:
        write_report(plan)
    except (Failed, Stopped, OSError) as error:
        print(f"no report.html: {error or 'stopped'}", flush=True)
    spent = read_json(out / "paper.json")["parts"]["seconds_of_one_thread"]
    print(f"{out / 'paper.json'}: {sum(e['state'] == 'complete' for e in entries)} of {len(entries)} entries; this call {(time.monotonic() - begin) / 60:.1f} minutes, "
          f"all parts {spent / 60:.1f} minutes of one thread")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
