#!/usr/bin/env python3
"""Requests a second that `reasondistill collect` completes and stores on one core, and its memory (standard library only).

    bench_teacher.py COMMAND SERVER [--requests N] [--samples S] [--concurrency C]

SERVER (tests/tools/answer_server) sits on another core and answers at once: 100 tokens with five alternatives each. Prints one JSON object:
N / S questions of S samples, a request each. requests_per_s by the clock, requests_per_cpu_s by the client's own time (what it would be alone on its core), rss at a tenth of the rows and at the end.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("server")
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=16)
    a = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        questions, store = Path(folder) / "q.jsonl", Path(folder) / "teacher.jsonl"
        questions.write_text("".join(f'{{"id":"q{i}","question":"What is {i} + {i}?","answer":"{2 * i}"}}\n' for i in range(a.requests // a.samples)))
        server = subprocess.Popen([a.server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores[-1:]))
        port = int(server.stdout.readline())
        start = time.monotonic()
        client = subprocess.Popen([a.command, "collect", "--questions", str(questions), "--teacher", f"http://127.0.0.1:{port}/v1", "--model", "m",
                                   "--api", "completions", "--out", str(store), "--concurrency", str(a.concurrency), "--samples", str(a.samples), "--per-request", "1"],
                                  stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores[:1]))
        row, first, last = 0, 0, 0
        while client.poll() is None:
            size = store.stat().st_size if store.exists() else 0
            if not row and size > 100000:
                with store.open("rb") as f:
                    row = len(f.readline())
            try:
                last = status_kib(client.pid, "VmRSS") or last
            except OSError:
                break
            if row and not first and size >= a.requests * row / 10:
                first = last
            time.sleep(0.05)
        _, code, usage = os.wait4(client.pid, 0) if client.returncode is None else (0, client.returncode, None)
        seconds = time.monotonic() - start
        server.stdin.close()
        counts = json.loads(server.stdout.readline())
        stored = sum(1 for _ in store.open("rb"))
        cpu = usage.ru_utime + usage.ru_stime if usage else sum(os.times()[2:4])
        print(json.dumps({"requests": counts["requests"], "stored": stored, "seconds": round(seconds, 2), "requests_per_s": round(stored / seconds),
                          "client_cpu_s": round(cpu, 2), "requests_per_cpu_s": round(stored / cpu), "store_mib": round(store.stat().st_size / 2**20, 1),
                          "rss_mib_at_a_tenth": round(first / 1024, 1), "rss_mib_at_the_end": round(last / 1024, 1)}))
        return 0 if code == 0 and stored == a.requests // a.samples * a.samples else 1


sys.exit(main())
