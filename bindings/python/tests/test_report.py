"""The report: every input it reads becomes tables and pictures, one file holds all, and what cannot be read says where."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reasondistill.report import ReportError, as_text, read_material, sections_of, write_page
from reasondistill.report.__main__ import main
from reasondistill.report.blocks import Picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def evaluation(right: int, n: int = 20, **more: object) -> dict:
    items = [{"id": f"q{i}", "question": f"What is {i} + 1?", "gold": str(i + 1), "answer": str(i + 1) if i < right else None, "correct": i < right, "tokens": 4, "finish": "stop",
              "output": f"<b>{i}</b> + 1"} for i in range(n)]
    return {"task": "jsonl", "data": "sets/held.jsonl", "format": "zs-cot", "n": n, "correct": right, "no_answer": n - right, "accuracy": right / n,
            "low": max(0.0, right / n - 0.1), "high": min(1.0, right / n + 0.1), "mean_tokens": 4.0, "seconds": 0.1, "items": items, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    d = tmp_path / "run"
    (d / "eval" / "before").mkdir(parents=True)
    (d / "run.json").write_text(json.dumps({"model": "student", "formats": {"zs-cot": 1}, "loss": "kl", "optimizer": "adamw", "lr": 0.01,
                                            "eval": [{"name": "held", "kind": "id"}, {"name": "other", "kind": "ood"}]}))
    (d / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "loss": 5 / s, "accuracy": s / 40, "lr": 0.01, "grad_norm": 1.0, "seconds": 0.5,
                                                                "losses": {"zs-cot": 4 / s, **({"ic-ao": 9 / s} if s % 2 else {})}}) + "\n" for s in range(1, 31))
                                     + '{"step": 30, "set": "held", "accuracy": 0.5, "seconds": 9.0}\n'
                                     + '{"step": 31, "lo')
    (d / "eval" / "before" / "start.json").write_text(json.dumps(evaluation(1)))
    (d / "eval" / "end.json").write_text(json.dumps(evaluation(14)))
    for step, right in ((10, 5), (20, 12)):
        (d / "eval" / f"step-{step}-held.json").write_text(json.dumps(evaluation(right)))
        (d / "eval" / f"step-{step}-other.json").write_text(json.dumps(evaluation(20 - right)))
    return d


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    point = {"value": 0.5, "low": 0.4, "high": 0.6}
    path = tmp_path / "paper.json"
    path.write_text(json.dumps({"seconds": 12, "entries": [
        {"key": "gain", "state": "complete", "title": "Gain & loss", "question": "What?", "paper": "All gain.", "agrees": False, "summary": ["it gains 3 points"],
         "columns": [{"key": "size", "title": "parameters"}, {"key": "target", "title": "on the target", "unit": "accuracy"}, {"key": "under", "title": "undertrained"},
                     {"key": "half", "title": "second half", "unit": "accuracy"}],
         "rows": [{"size": 11360, "target": point, "under": ["generic", "target"], "half": {"generic": 0.25, "target": 0.125}}],
         "steps_to_reach": [{"level": 0.5, "kl": [100, None, 2000]}],
         "series": [{"name": "kl", "x_title": "steps", "y_title": "accuracy", "x": [0, 10], "y": [0.1, 0.5], "seeds": [[0.1, 0.4], [0.1, 0.6]]}]},
        {"key": "scaling", "state": "complete", "title": "Scaling", "columns": [{"key": "what", "title": "of"}, {"key": "slope", "title": "slope", "unit": "accuracy"}],
         "rows": [{"what": "after", "slope": point, "intercept": 0.1}],
         "series": [{"name": "after", "x_title": "log10 parameters", "y_title": "accuracy", "x": [4, 5], "y": [0.2, 0.7]}]},
        {"key": "sweep", "title": "Alpha", "state": "waiting", "waits_for": "merge 0.5"}]}))
    return path


@pytest.fixture
def heat(tmp_path: Path) -> Path:
    path = tmp_path / "heat.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{i}", "sample": 0, "method": "span", "tokens": [" 48", "\n", {"hex": "e2"}], "pieces": ["\u2581", "48", "</s>"],
                                        "kinds": ["blank", "exact", "hard"], "placed": [0.9, 0.8, 1], "tail": [0.1, 0.2, 0], "cells": [[0, 0, 0.9], [0, 1, 0.8]]}) + "\n" for i in range(2)))
    return path


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    def row(name: str, x: float, a: float, b: float) -> dict:
        return {"name": name, "x": x, "mean_id": a, "mean_ood": b, "front": True,
                "scores": [{"set": s, "n": 10, "correct": 1, "accuracy": v, "low": v - 0.1, "high": v + 0.1} for s, v in (("dev", a), ("other", b))]}

    rows = [row("step-10", 10, 0.3, 0.8), row("step-20", 20, 0.6, 0.4)]
    path = tmp_path / "select.json"
    path.write_text(json.dumps({"parser": "strict", "sets": [{"name": n, "role": r, "task": "jsonl", "format": "zs-cot", "data": "d"} for n, r in (("dev", "id"), ("other", "ood"))],
                                "rows": rows, "rules": [{"rule": "last", "row": 1, **rows[1]}, {"rule": "best-mean-ood", "row": 0, **rows[0]}]}, indent=1))
    return path


@pytest.fixture
def fits(tmp_path: Path) -> Path:
    path = tmp_path / "fits.json"
    path.write_text(json.dumps({"series": [{"name": "after", "log10_parameters": [4, 5], "accuracy": [0.2, 0.6], "log_odds": [None, None]}],
                                "fits": [{"series": "after", "of": "accuracy", "n": 2, "slope": 0.4, "slope_low": None, "slope_high": None, "intercept": -1.4, "r2": 1, "error": 0}]}))
    return path


def test_a_selection_shows_what_each_rule_keeps(grid: Path) -> None:
    text = as_text("R", sections_of(read_material([grid])))
    assert re.search(r"^best-mean-ood +step-10 +30\.0 % \[20\.0 %, 40\.0 %\] +80\.0 %", text, re.M) and re.search(r"^last +step-20 ", text, re.M)
    trade = next(b for s in sections_of(read_material([grid])) for b in s.blocks if isinstance(b, Picture) and b.title == "The trade")
    assert [(line.name, list(line.x), list(line.y)) for line in trade.lines][1] == ("last", [60.0], [40.0])


def test_a_sweep_has_points_and_no_rules(grid: Path) -> None:
    doc = json.loads(grid.read_text())
    del doc["rules"]
    grid.write_text(json.dumps({"sweep": ["base", "tuned"], **doc}))
    sections = sections_of(read_material([grid]))
    assert sections[0].title.startswith("Between models") and [b.x_title for b in sections[0].blocks if isinstance(b, Picture)][0].startswith("alpha")
    assert "What each rule" not in as_text("R", sections)


def test_a_fit_is_drawn_through_its_points(fits: Path) -> None:
    lines = next(b for s in sections_of(read_material([fits])) for b in s.blocks if isinstance(b, Picture)).lines
    assert [line.joined for line in lines] == [False, True] and lines[1].y == pytest.approx([20.0, 60.0])


def test_a_run_tells_what_was_gained_and_how(run: Path) -> None:
    text = as_text("R", sections_of(read_material([run])))
    assert re.search(r"held zs-cot +20 +5\.0 % \[0\.0 %, 15\.0 %\] +70\.0 % \[60\.0 %, 80\.0 %\]", text)
    assert "zs-cot 1" in text and re.search(r"kl +adamw +0\.01 +30 +0\.1667", text), "the torn line of a run that is going on is left out"
    assert "held (id)" in text and "other (ood)" in text and re.search(r"^10 .*25\.0 %.*75\.0 %", text, re.M)
    assert text.count("\nright: ") == 10 and text.count("\nwrong: ") == 6 and "read nothing" in text
    by_format = next(b for s in sections_of(read_material([run])) for b in s.blocks if isinstance(b, Picture) and b.title.startswith("Loss of each format"))
    assert [(line.name, len(line.x), line.y[-1]) for line in by_format.lines] == [("zs-cot", 30, pytest.approx(4 / 30)), ("ic-ao", 15, pytest.approx(9 / 29))]
    titles = {b.title for s in sections_of(read_material([run])) for b in s.blocks if isinstance(b, Picture)}
    assert {"Accuracy before and after", "Loss", "Accuracy along training", "The trade, checkpoint by checkpoint"} <= titles


def test_entries_of_an_experiment_keep_their_words_and_figures(paper: Path) -> None:
    text = as_text("R", sections_of(read_material([paper])))
    assert "The paper: All gain. These runs do not." in text and "it gains 3 points" in text
    assert re.search(r"11,360 +50\.0 % \[40\.0 %, 60\.0 %\] +generic, target +generic 25\.0 %; target 12\.5 %", text) and "100, never, 2,000" in text
    assert "it waits for merge 0.5" in text
    lines = [line for s in sections_of(read_material([paper])) if s.title == "Scaling" for b in s.blocks if isinstance(b, Picture) for line in getattr(b, "lines", [])]
    fit = next(line for line in lines if line.name == "after: fit")
    assert fit.y == [pytest.approx(100 * (0.1 + 0.5 * 4)), pytest.approx(100 * (0.1 + 0.5 * 5))]


def test_a_table_too_wide_for_a_terminal_or_a_page_lies_on_its_side(tmp_path: Path) -> None:
    columns = [{"key": f"c{i}", "title": f"a rather long title of column {i}"} for i in range(9)]
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"entries": [{"title": "T", "state": "complete", "columns": columns, "rows": [{f"c{i}": i for i in range(9)}]}]}))
    text = as_text("R", sections_of(read_material([path])))
    write_page(tmp_path / "p.html", "R", sections_of(read_material([path])))
    assert "<tr><th>a rather long title of column 8</th><td class=number>8</td></tr>" in (tmp_path / "p.html").read_text()
    assert max(map(len, text.splitlines())) < 150 and re.search(r"^a rather long title of column 8 +8$", text, re.M)


def test_the_page_holds_everything_itself(run: Path, paper: Path, heat: Path, grid: Path, fits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(map(str, (run, paper, heat, grid, fits)))) == 0
    page = (run / "report.html").read_text()
    pictures = sum(isinstance(b, Picture) for s in sections_of(read_material([run, paper, heat, grid, fits])) for b in s.blocks)
    assert page.count('src="data:image/svg+xml;base64,') == page.count("<img ") == pictures >= 15
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is fetched"
    assert "&lt;b&gt;0&lt;/b&gt; + 1" in page and "<b>0" not in page, "outputs are text, whatever they hold"
    assert "Gain &amp; loss" in page
    assert main([*map(str, (run, paper, heat, grid, fits)), "--out", str(run / "again.html")]) == 0
    assert (run / "again.html").read_text() == page, "the same inputs give the same page"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_every_picture(run: Path, paper: Path, heat: Path, grid: Path, fits: Path, tmp_path: Path) -> None:
    assert main([*map(str, (run, paper, heat, grid, fits)), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    probe = "<script>addEventListener('load', () => document.title = [...document.images].map(i => i.complete && i.naturalWidth > 50 ? 'shown' : 'missing').join(' '))</script></body>"
    (tmp_path / "probe.html").write_text(page.replace("</body>", probe))
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
                           (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>([^<]*)</title>", done.stdout)
    assert title and title[1].split() == ["shown"] * page.count("<img "), done.stderr[-500:]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.json", "{", "a.json: no JSON"), ("b.json", "[1]", "b.json: expected an object, found list"), ("c.json", '{"x": 1}', "c.json: cannot tell what this is"),
    ("d.jsonl", '{"a": 1}\n{"b"}\n{"c": 1}', "d.jsonl, line 2: no JSON"), ("e.json", '{"entries": [3]}', "e.json: an entry is not as paper.sh writes it"),
    ("f.json", '{"cells": [[7, 0, 1]], "pieces": ["a"], "tokens": ["a"]}', "heat map of ?: expected"), ("g.json", "{" + "[" * 50 + "}", "g.json: no JSON"),
    ("i.json", '{"rules": [], "rows": [{"name": "alpha-1"}], "sets": []}', "i.json: not as select and sweep write it"),
    ("j.json", '{"fits": [{}], "series": []}', "j.json: not as scaling writes it"),
    ("h.json", '{"task": "gsm8k", "items": [1], "n": 1, "accuracy": 1, "low": 0, "high": 1}', "h.json: cannot tell what this is")])
def test_what_cannot_be_read_says_where(tmp_path: Path, name: str, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReportError, match=re.escape(words)):
        sections_of(read_material([tmp_path / name]))
    assert main([str(tmp_path / name)]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_old_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    old = (run / "report.html").read_bytes()
    assert main([str(run), "--out", str(run / "no" / "where.html")]) == 1 and "No such file" in capsys.readouterr().err
    (run / "metrics.jsonl").write_text("x\n")
    assert main([str(run)]) == 1 and (run / "report.html").read_bytes() == old
    assert [p.name for p in run.iterdir() if p.name.startswith("report.html.")] == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run directory"):
        read_material([tmp_path])
