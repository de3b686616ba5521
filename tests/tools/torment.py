#!/usr/bin/env python3
"""A long run under faults and kills, counted from outside (standard library only).

    torment.py COMMAND SERVER [--requests N] [--faults PERCENT] [--kills K] [--concurrency C] [--seconds S]

Runs `COMMAND collect` (the reasondistill command) against SERVER (answer_server) for N questions while PERCENT of the requests meet a fault,
interrupts it twice with SIGINT and K times with SIGKILL, and lets it finish. Then: no row lost, none twice; requests beyond the ideal at most the
faults plus what was in flight at the kills (an interrupt costs none: what is in flight is stored first); nobody followed a redirect; the key is in no log, store, cassette or command line. Exit status 1 where that does not hold.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CANARY = "sk-canary-5d1e77"
INTERRUPTS = 2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("server")
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300)
    a = parser.parse_args()
    rng = random.Random(7)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        dir = Path(folder)
        questions, store, cassette, log = dir / "q.jsonl", dir / "teacher.jsonl", dir / "cassette.jsonl", dir / "log.txt"
        questions.write_text("".join(f'{{"id":"q{i}","question":"What is {i} + {i}?","answer":"{2 * i}"}}\n' for i in range(a.requests)))
        server = subprocess.Popen([a.server, "--tokens", "5", "--faults", str(a.faults)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = int(server.stdout.readline())
        command = [a.command, "collect", "--questions", str(questions), "--teacher", f"record:{cassette},http://127.0.0.1:{port}/v1",
                   "--model", "m", "--api", "completions", "--out", str(store), "--concurrency", str(a.concurrency), "--retries", "8",
                   "--max-body", str(1 << 20)]
        environment = {**os.environ, "OPENAI_API_KEY": CANARY}
        kills = runs = exposed = interrupts = unclean = 0
        status: int | None = None
        # A kill falls where a share of the rows is there, so that kills are spread over the run whatever the machine's speed.
        marks = sorted(rng.uniform(0.02, 0.95) for _ in range(a.kills + INTERRUPTS))
        row = 0
        with log.open("wb") as out:
            while status != 0 and runs < a.kills + INTERRUPTS + 20 and time.monotonic() - started < a.seconds:
                client = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
                runs += 1
                while client.poll() is None and time.monotonic() - started < a.seconds:
                    if kills + interrupts < len(marks):
                        size = store.stat().st_size if store.exists() else 0
                        row = row or (len(store.read_bytes().split(b"\n", 1)[0]) + 1 if size > 2000 else 0)
                        if row and size >= marks[kills + interrupts] * a.requests * row:
                            exposed += CANARY.encode() in Path(f"/proc/{client.pid}/cmdline").read_bytes()
                            if interrupts < INTERRUPTS:
                                client.send_signal(signal.SIGINT)
                                interrupts += 1
                                unclean += client.wait(60) != 1
                            else:
                                client.send_signal(signal.SIGKILL)
                                kills += 1
                            break
                        time.sleep(0.002)
                    else:
                        time.sleep(0.02)
                if client.poll() is None and time.monotonic() - started >= a.seconds:
                    client.kill()
                status = client.wait()
        server.stdin.close()
        counts = json.loads(server.stdout.readline())
        server.wait()
        rows = [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]
        distinct = {(r["id"], r["sample"]) for r in rows}
        verified = subprocess.run([a.command, "collect", "--out", str(store), "--verify"], capture_output=True, text=True)
        leaks = [f.name for f in dir.iterdir() if f != questions and CANARY.encode() in f.read_bytes()]
        beyond = counts["requests"] - a.requests
        allowed = counts["faults"] + kills * a.concurrency
        failures = []
        for holds, what in ((status == 0, f"the last run ended with {status}"), (kills == a.kills, f"{kills} kills only"),
                            (len(distinct) == a.requests, f"{a.requests - len(distinct)} rows lost"),
                            (len(rows) == len(distinct), f"{len(rows) - len(distinct)} rows twice"),
                            (beyond <= allowed, f"{beyond} requests beyond the ideal, {allowed} allowed"),
                            (a.faults == 0 or counts["faults"] > a.requests * a.faults / 200, "faults did not happen"),
                            (counts["elsewhere"] == 0, "a redirect was followed"), (not leaks, f"the key is in {leaks}"),
                            (unclean == 0, "an interrupt did not end the run cleanly"),
                            (interrupts == INTERRUPTS, "too few interrupts"), (exposed == 0, "the key is in /proc/PID/cmdline"), (verified.returncode == 0, verified.stderr)):
            if not holds:
                failures.append(what)
        print(f"torment: {a.requests} rows, {counts['requests']} requests, {counts['faults']} faults, {counts['slow']} slow, {kills} kills, "
              f"{runs} runs, {beyond} beyond the ideal ({allowed} allowed), {time.monotonic() - started:.1f} s")
        if failures:
            print("torment: " + "; ".join(failures))
            print(log.read_text(errors="replace")[-2000:])
        return 1 if failures else 0


sys.exit(main())
