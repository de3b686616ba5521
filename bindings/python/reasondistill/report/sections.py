"""From what was read to sections: which tables and pictures answer what a reader asks first. What is gained on the task, what is paid elsewhere, how training went,
what the outputs look like, and with which settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

from .blocks import Block, Cell, Curves, HeatMap, Intervals, Line, Output, Outputs, Section, Settings, Share, Table
from .sources import Json, Material, ReportError, Run, label, what
from .text import cell_text

OUTPUTS = 10  # of each kind
METRICS = (("loss", "loss", True), ("accuracy", "share of tokens that are right", False), ("lr", "learning rate", False),
           ("grad_norm", "norm of the gradient", True))


def number(v: Any) -> float:
    return float(v) if isinstance(v, (int, float)) else float("nan")


def share(v: Json) -> Share:
    return Share(number(v["accuracy"]), number(v["low"]), number(v["high"]))


# ---- runs ----


def smooth(y: Sequence[float], n: int = 200) -> list[float]:
    """Running means that leave about n points' worth of detail."""
    width, out, total = max(1, len(y) // n), [], 0.0
    for i, v in enumerate(y):
        total += v - (y[i - width] if i >= width else 0)
        out.append(total / min(i + 1, width))
    return out


def training(runs: Sequence[Run]) -> Section:
    s = Section("Training")
    rows: list[list[Cell]] = []
    for r in runs:
        steps = [m for m in r.metrics if "loss" in m]  # the other lines are evaluations
        c, last = r.config, steps[-1] if steps else {}
        loss = c.get("loss")
        formats = c.get("formats")
        rows.append([r.name, ", ".join(f"{k} {v:g}" for k, v in formats.items()) if isinstance(formats, dict) else str(formats),
                     loss if isinstance(loss, str) else json.dumps(loss), c.get("optimizer"), number(c.get("lr")), last.get("step"), last.get("loss"),
                     round(sum(number(m.get("seconds")) for m in steps) / len(steps), 4) if steps else None])
    s.blocks.append(Table("Runs", ("run", "formats", "loss", "optimizer", "learning rate", "steps done", "last loss", "seconds a step"), rows))
    for key, title, log in METRICS:
        lines = []
        for r in runs:
            points = [(number(m["step"]), number(m[key])) for m in r.metrics if key in m and "step" in m]
            if points:
                lines.append(Line(r.name, [x for x, _ in points], smooth([y for _, y in points]) if key == "loss" else [y for _, y in points]))
        if lines:
            s.blocks.append(Curves(f"{title[0].upper()}{title[1:]}", "steps", title, lines, log_y=log))
    for r in runs:
        by_format = {f: [(number(m["step"]), number(m["losses"][f])) for m in r.metrics if isinstance(m.get("losses"), dict) and f in m["losses"] and "step" in m]
                     for f in ("zs-ao", "zs-cot", "ic-ao", "ic-cot")}
        lines = [Line(f, [x for x, _ in points], smooth([y for _, y in points])) for f, points in by_format.items() if points]
        if len(lines) > 1:
            s.blocks.append(Curves(f"Loss of each format, {r.name}", "steps", "loss", lines, log_y=True))
    return s


def before_and_after(runs: Sequence[Run]) -> Section | None:
    s = Section("Before and after", ["Accuracy of final answers with 95 % Wilson intervals."])
    rows: list[list[Cell]] = []
    labels, before, after = [], [], []
    for r in runs:
        start = {what(v): v for v in r.before}
        for v in r.after:
            old = start.get(what(v))
            name = label(v) if len(runs) == 1 else f"{r.name}: {label(v)}"
            rows.append([name, v["n"], share(old) if old else None, share(v), v.get("no_answer"), v.get("mean_tokens")])
            labels.append(name)
            before.append(share(old) if old else None)
            after.append(share(v))
    if not rows:
        return None
    s.blocks += [Intervals("Accuracy before and after", "accuracy in %", labels, [("before", before), ("after", after)]),
                 Table("Accuracy", ("data", "items", "before", "after", "without an answer", "tokens of an output"), rows)]
    return s


def kinds(r: Run) -> dict[str, str]:
    """Which development sets are of the task itself (id) and which of others (ood), where run.json says."""
    sets = r.config.get("eval")
    return {str(j.get("name")): str(j["kind"]) for j in sets if isinstance(j, dict) and j.get("kind")} if isinstance(sets, list) else {}


def development(r: Run) -> Section | None:
    if not r.during:
        return None
    s = Section(f"Development sets along {r.name}")
    names = sorted({name for _, name, _ in r.during})
    at = {name: [(step, v) for step, n, v in r.during if n == name] for name in names}
    lines = [Line(name, [p for p, _ in points], [100 * number(v["accuracy"]) for _, v in points], [100 * number(v["low"]) for _, v in points],
                  [100 * number(v["high"]) for _, v in points]) for name, points in at.items()]
    s.blocks.append(Curves("Accuracy along training", "steps", "accuracy in %", lines))
    kind = kinds(r)
    steps = sorted({step for step, _, _ in r.during})
    table = [[step, *(next((share(v) for p, v in at[name] if p == step), None) for name in names)] for step in steps]
    s.blocks.append(Table("Checkpoints", ("step", *(f"{n} ({kind[n]})" if n in kind else n for n in names)), table))
    inside, outside = [n for n in names if kind.get(n) == "id"], [n for n in names if kind.get(n) == "ood"]
    if inside and outside:
        mean = {group: [100 * sum(c.value for c in cells) / len(cells) if (cells := [row[1 + names.index(n)] for n in chosen if row[1 + names.index(n)]]) else float("nan")
                        for row in table] for group, chosen in (("id", inside), ("ood", outside))}
        s.blocks.append(Curves("The trade, checkpoint by checkpoint", f"accuracy in % on {', '.join(inside)}", f"on {', '.join(outside)}", [Line(r.name, mean["id"], mean["ood"])]))
    return s


def outputs(v: Json, title: str) -> Block | None:
    """The first right and the first wrong ones: not chosen for their looks."""
    found: list[Output] = []
    for right in (True, False):
        items = [i for i in v["items"] if bool(i.get("correct")) is right][:OUTPUTS]
        found += [Output(right, str(i.get("question", i.get("id"))), str(i.get("output", "")), str(i.get("gold")), None if i.get("answer") is None else str(i["answer"])) for i in items]
    return Outputs(title, found) if found else None


def examples(runs: Sequence[Run]) -> Section | None:
    s = Section("Outputs", [f"The first {OUTPUTS} right and the first {OUTPUTS} wrong ones of each set."])
    for r in runs:
        for v in r.after or [v for step, _, v in r.during if step == r.during[-1][0]]:
            b = outputs(v, f"{r.name}: {label(v)}")
            if b:
                s.blocks.append(b)
    return s if s.blocks else None


def settings(runs: Sequence[Run]) -> Section:
    return Section("Configuration", [], [Settings(f"{r.name}/run.json", [(k, json.dumps(v, ensure_ascii=False)) for k, v in r.config.items()]) for r in runs])


# ---- files ----


def evaluations(found: Sequence[tuple[Path, Json]]) -> Section:
    s = Section("Evaluations", ["Accuracy of final answers with 95 % Wilson intervals."])
    names = [f"{path.stem}: {label(v)}" for path, v in found]
    s.blocks.append(Intervals("Accuracy", "accuracy in %", names, [("accuracy", [share(v) for _, v in found])]))
    s.blocks.append(Table("Accuracy", ("file", "items", "accuracy", "without an answer", "tokens of an output"),
                          [[n, v["n"], share(v), v.get("no_answer"), v.get("mean_tokens")] for n, (_, v) in zip(names, found)]))
    for n, (_, v) in zip(names, found):
        b = outputs(v, n)
        if b:
            s.blocks.append(b)
    return s


def grid(path: Path, v: Json) -> Section:
    """Checkpoints of a run or points of a line, on sets in and out of distribution, and which of them each rule would keep."""
    try:
        rows: list[Json] = v["rows"]
        sets: list[Json] = v["sets"]
        sweep, rules = "sweep" in v, v.get("rules", [])
        s = Section(f"Between models: {path.name}" if sweep else f"Which checkpoint: {path.name}",
                    ["Sets are in distribution (id: what was trained for), out of distribution (ood: what should not be lost), or tests, which no rule looks at."])
        where, x = ("alpha (0: base, 1: tuned)", [number(r["x"]) for r in rows]) if sweep else ("steps", [number(r["x"]) for r in rows])
        s.blocks.append(Curves("Accuracy", where, "accuracy in %", [
            Line(f"{c['name']} ({c['role']})", x, *([100 * number(r["scores"][i][k]) for r in rows] for k in ("accuracy", "low", "high"))) for i, c in enumerate(sets)]))
        s.blocks.append(Table("Rows", ("", *(f"{c['name']} ({c['role']})" for c in sets), "mean id", "mean ood", "not beaten on both"),
                              [[str(r["name"]), *(share(a) for a in r["scores"]), *means(r), bool(r["front"])] for r in rows]))
        if all(isinstance(r.get(k), (int, float)) for r in rows for k in ("mean_id", "mean_ood")):
            chosen = [Line(str(c["rule"]), [100 * c["mean_id"]], [100 * c["mean_ood"]], joined=False) for c in rules]
            s.blocks.append(Curves("The trade", "mean accuracy in % in distribution", "out of distribution",
                                   [Line("all", [100 * r["mean_id"] for r in rows], [100 * r["mean_ood"] for r in rows]), *chosen]))
        if rules:
            s.blocks.append(Table("What each rule keeps", ("rule", "row", *(str(c["name"]) for c in sets), "mean id", "mean ood"),
                                  [[str(c["rule"]), str(c["name"]), *(share(a) for a in c["scores"]), *means(c)] for c in rules]))
        return s
    except (KeyError, TypeError, IndexError, AttributeError) as e:
        raise ReportError(f"{path}: not as select and sweep write it: {type(e).__name__}: {e}") from e


def means(r: Json) -> list[Cell]:
    return [Share(v, v, v) if isinstance(v, (int, float)) else None for v in (r.get("mean_id"), r.get("mean_ood"))]


def scaling(path: Path, v: Json) -> Section:
    try:
        s = Section(f"Scaling: {path.name}", ["R^2 of so few points is a description, not a test."])
        lines: list[Line] = []
        for series in v["series"]:
            name, points = str(series["name"]), sorted((number(a), number(b)) for a, b in zip(series["log10_parameters"], series["accuracy"]))
            x = [a for a, _ in points]
            lines.append(Line(name, x, [100 * b for _, b in points], joined=False))
            f = next((f for f in v["fits"] if f["series"] == name and f["of"] == "accuracy"), None)
            if f and x:
                lines.append(Line(f"{name}: fit", [x[0], x[-1]], [100 * (f["intercept"] + f["slope"] * e) for e in (x[0], x[-1])]))
        s.blocks.append(Curves("Accuracy against size", "log10 parameters", "accuracy in %", lines))
        s.blocks.append(Table("Least squares against log10 parameters", ("series", "of", "points", "slope", "95 % interval", "intercept", "R^2"),
                              [[str(f["series"]), str(f["of"]), f["n"], number(f["slope"]),
                                "-" if f["slope_low"] is None else f"{f['slope_low']:.4g} to {f['slope_high']:.4g}", number(f["intercept"]), number(f["r2"])] for f in v["fits"]]))
        return s
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as e:
        raise ReportError(f"{path}: not as scaling writes it: {type(e).__name__}: {e}") from e


def heat_map(v: Json) -> Block:
    try:
        rows, columns = [token(t) for t in v["tokens"]], [str(p) for p in v["pieces"]]
        cells = [(int(i), int(j), float(p)) for i, j, p in v["cells"]]
        if any(not (0 <= i < len(rows) and 0 <= j < len(columns)) for i, j, _ in cells):
            raise ValueError("a cell outside of tokens and pieces")
        return HeatMap(f"Alignment of {v.get('id', 'a reply')} ({v.get('method', '')})", rows, columns, [str(k) for k in v.get("kinds", [])], cells)
    except (KeyError, TypeError, ValueError) as e:
        raise ReportError(f"heat map of {v.get('id', '?')}: expected tokens, pieces and cells [token, piece, mass]: {e}") from e


def token(t: Any) -> str:
    """Blanks and line ends become visible; bytes that are no text are shown as such."""
    return f"<{t.get('hex', '?')}>" if isinstance(t, dict) else str(t).replace("\n", "\\n").replace(" ", "_")


# ---- paper.json: entries with columns, rows, series and sentences ----


def cell(v: Any, unit: str) -> Cell:
    if isinstance(v, dict) and {"value", "low", "high"} <= v.keys():
        if "accuracy" in unit:
            return Share(number(v["value"]), number(v["low"]), number(v["high"]))
        return f"{number(v['value']):.4g} [{number(v['low']):.4g}, {number(v['high']):.4g}]"
    if isinstance(v, float) and unit == "accuracy":
        return Share(v, v, v)
    if isinstance(v, dict):
        return "; ".join(f"{k} {cell_text(cell(x, unit))}" for k, x in v.items())
    if isinstance(v, list):
        return ", ".join(cell_text(cell(x, unit)) for x in v) or "no"
    return v if v is None or isinstance(v, (str, bool, int, float)) else json.dumps(v, ensure_ascii=False)


def entry(v: Json) -> Section:
    s = Section(str(v.get("title", v.get("key", "An entry"))), [str(v["question"])] if v.get("question") else [])
    if v.get("state") != "complete":
        s.text.append(f"Not measured yet: it waits for {v.get('waits_for', 'a part')}.")
        return s
    if v.get("paper"):
        agrees = {True: "These runs agree.", False: "These runs do not.", None: "These runs do not decide it."}[v.get("agrees") if isinstance(v.get("agrees"), bool) else None]
        s.text.append(f"The paper: {v['paper']} {agrees}" if not str(v["paper"]).startswith("Not in the paper") else str(v["paper"]))
    s.text += [str(t) for t in v.get("summary", [])]
    columns: list[Json] = v.get("columns", [])
    rows: list[Json] = v.get("rows", [])
    if columns and rows:
        first = columns[0]["key"]
        points = [c for c in columns if all(isinstance(r.get(c["key"]), dict) and "low" in r[c["key"]] for r in rows)]
        plain = [c for c in points if not c["key"].endswith(("_change", "_difference"))]
        if plain and all("accuracy" == c.get("unit") for c in plain):
            s.blocks.append(Intervals(s.title, "accuracy in %", [cell_text(cell(r.get(first), "")) for r in rows],
                                      [(str(c["title"]), [cell(r[c["key"]], "accuracy") for r in rows]) for c in plain]))
        s.blocks.append(Table("Figures", [str(c["title"]) for c in columns], [[cell(r.get(c["key"]), str(c.get("unit", ""))) for c in columns] for r in rows]))
    if isinstance(v.get("steps_to_reach"), list) and v["steps_to_reach"]:
        reached: list[Json] = v["steps_to_reach"]
        keys = [k for k in reached[0] if k != "level"]
        s.blocks.append(Table("Steps to reach an accuracy, seed by seed", ["accuracy", *keys],
                              [[Share(r["level"], r["level"], r["level"]), *(", ".join("never" if x is None else f"{x:,}" for x in r[k]) for k in keys)] for r in reached]))
    series: list[Json] = v.get("series", [])
    for axes in dict.fromkeys((str(x.get("x_title")), str(x.get("y_title"))) for x in series):
        chosen = [x for x in series if (str(x.get("x_title")), str(x.get("y_title"))) == axes]
        scale = 100 if axes[1].startswith("accuracy") else 1
        lines = [Line(str(x.get("name")), [number(p) for p in x["x"]], [scale * number(p) for p in x["y"]],
                      *(([scale * min(number(c[i]) for c in x["seeds"]) for i in range(len(x["x"]))], [scale * max(number(c[i]) for c in x["seeds"]) for i in range(len(x["x"]))])
                        if x.get("seeds") else ())) for x in chosen]
        s.blocks.append(Curves(s.title, axes[0], axes[1] + (" in %" if scale == 100 else ""), [fit for line in lines for fit in fitted(line, rows, scale)]))
    return s


def fitted(line: Line, rows: Sequence[Json], scale: float) -> list[Line]:
    """The line itself, or its points and the straight line that a row of the table says of them, `scale` times."""
    row = next((r for r in rows if r.get("what") == line.name and isinstance(r.get("slope"), dict) and "intercept" in r), None)
    if row is None or len(line.x) < 2:
        return [line]
    ends = [min(line.x), max(line.x)]
    return [replace(line, joined=False), Line(f"{line.name}: fit", ends, [scale * (row["intercept"] + row["slope"]["value"] * x) for x in ends])]


def paper(path: Path, v: Json) -> list[Section]:
    try:
        made = [entry(e) for e in [*v["entries"], *v.get("beside", [])]]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as e:
        raise ReportError(f"{path}: an entry is not as paper.sh writes it: {type(e).__name__}: {e}") from e
    rest = [(k, json.dumps(x, ensure_ascii=False)) for k, x in v.items() if k not in ("entries", "beside")]
    return [*made, Section("How it was made", [], [Settings(path.name, rest)])] if rest else made


def sections_of(m: Material) -> list[Section]:
    """All that can be said of what was read, in the order in which a reader asks."""
    found: list[Section | None] = [before_and_after(m.runs) if m.runs else None]
    for path, v in m.papers:
        found += paper(path, v)
    found += [grid(path, v) for path, v in m.grids]
    found += [scaling(path, v) for path, v in m.fits]
    if m.evaluations:
        found.append(evaluations(m.evaluations))
    if m.runs:
        found.append(training(m.runs))
        found += [development(r) for r in m.runs]
    if m.heat_maps:
        found.append(Section("Alignment", ["How much of each teacher token's probability each student piece was given; the kind of the alignment stands beside a piece."],
                             [heat_map(v) for v in m.heat_maps]))
    if m.runs:
        found += [examples(m.runs), settings(m.runs)]
    return [s for s in found if s is not None]
