"""From finished parts to paper.json: eight entries, each with its question, table, curves, and what the numbers say.

Accuracies are means over seeds of one test set (or of several, each weighing the same). Intervals are 95 % percentile intervals of a bootstrap over seeds and
items: both are drawn with replacement, the same items for all models of a comparison and the same seeds for models that share their ancestor (Efron and
Tibshirani 1993). Three seeds make such an interval rough; a difference is called one only where its interval leaves out 0.
"""

from __future__ import annotations

import math
from typing import Callable, Sequence

import numpy as np

from lab import Part
from plan import OTHERS, Plan

DRAWS = 2000
PLATEAU = 0.02  # a size is undertrained if the second half of its steps gained more
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)

Score = list[np.ndarray]  # one [seeds, items] of 0 and 1 for each set


class Waiting(Exception):
    """A part is not finished."""


def need(part: Part) -> Part:
    if not part.done:
        raise Waiting(part.name)
    return part


def scores_at(figures: Sequence[dict], *sets: str) -> Score:
    """Of the figures of a test for each seed."""
    return [np.array([[c == "1" for c in f[name]["right"]] for f in figures], dtype=float) for name in sets]


def score(tests: Sequence[Part], *sets: str) -> Score:
    return scores_at([need(t).figures for t in tests], *sets)


def value_of(s: Score) -> float:
    return float(np.mean([m.mean() for m in s]))


def bootstrap(scores: Sequence[Score], f: Callable[[list[float]], float], seeds_paired: bool = True) -> dict:
    """f of the means, with its interval. All scores have the same sets, so the same items are drawn for each."""
    r = np.random.default_rng(20230130)
    values = []
    for _ in range(DRAWS):
        items = [r.integers(m.shape[1], size=m.shape[1]) for m in scores[0]]
        seeds = r.integers(scores[0][0].shape[0], size=scores[0][0].shape[0])
        means = []
        for s in scores:
            if not seeds_paired:
                seeds = r.integers(s[0].shape[0], size=s[0].shape[0])
            means.append(float(np.mean([m[seeds][:, i].mean() for m, i in zip(s, items, strict=True)])))
        values.append(f(means))
    low, high = np.percentile(values, [2.5, 97.5])
    return {"value": round(f([value_of(s) for s in scores]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def accuracy(s: Score) -> dict:
    by_seed = np.mean([m.mean(axis=1) for m in s], axis=0)
    return {**bootstrap([s], lambda v: v[0]), "seeds": [round(float(x), 4) for x in by_seed]}


def difference(a: Score, b: Score) -> dict:
    """a - b, seed for seed and item for item."""
    return bootstrap([a, b], lambda v: v[0] - v[1])


def verdict(d: dict) -> str:
    return "more" if d["low"] > 0 else "less" if d["high"] < 0 else "undecided"


def step_of(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """Where a curve first reaches a level, between its points on a straight line; its end where it does not."""
    for i, v in enumerate(y):
        if v >= level:
            return float(x[i] if i == 0 else x[i - 1] + (x[i] - x[i - 1]) * (level - y[i - 1]) / (v - y[i - 1]))
    return float(x[-1])


def steps_saved(x: Sequence[float], a: np.ndarray, b: np.ndarray) -> dict | None:
    """Steps by which a reaches the levels of LEVELS before b, on the mean of the levels that both reach: a and b are [seeds, points, items] of 0 and 1. Seeds and
    items are drawn together for both. None where there is no such level."""
    levels = [level for level in LEVELS if min(m.mean(axis=(0, 2)).max() for m in (a, b)) >= level]
    if not levels:
        return None

    def saved(curves: Sequence[np.ndarray]) -> float:
        first, second = ([step_of(x, y, level) for level in levels] for y in curves)
        return float(np.mean(second) - np.mean(first))

    r = np.random.default_rng(20230130)
    values = []
    for _ in range(DRAWS):
        seeds, items = r.integers(a.shape[0], size=a.shape[0]), r.integers(a.shape[2], size=a.shape[2])
        values.append(saved([m[seeds][:, :, items].mean(axis=(0, 2)) for m in (a, b)]))
    low, high = np.percentile(values, [2.5, 97.5])
    return {"value": round(saved([m.mean(axis=(0, 2)) for m in (a, b)]), 1), "low": round(float(low), 1), "high": round(float(high), 1), "levels": levels}


def agreement(*claims: str) -> bool | None:
    """Each claim is "yes", "no" or "undecided"; None where the numbers do not decide."""
    return False if "no" in claims else None if "undecided" in claims else True


def claim(d: dict, wanted: str) -> str:
    v = verdict(d)
    return "undecided" if v == "undecided" else "yes" if v == wanted else "no"


def percent(d: dict | float) -> str:
    return f"{100 * d:.1f} %" if isinstance(d, float) else f"{100 * d['value']:.1f} % [{100 * d['low']:.1f}, {100 * d['high']:.1f}]"


def points(d: dict) -> str:
    return f"{100 * d['value']:+.1f} points [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"


class Results:
    def __init__(self, plan: Plan) -> None:
        self.p, self.s = plan, plan.scale
        self.m = plan.scale.middle

    # -- what several entries use --

    def tests(self, parts: Sequence[Part]) -> list[Part]:
        return [self.p.test_of(p) for p in parts]

    def arm(self, name: str) -> list[Part]:
        return [self.p.arms[name][k] for k in self.s.seeds]

    def base(self, width: int) -> list[Part]:
        return [self.p.generic[width, k] for k in self.s.seeds]

    def tuned(self, width: int) -> list[Part]:
        return [self.p.special[width, k] for k in self.s.seeds]

    def mean_curve(self, parts: Sequence[Part], name: str) -> dict:
        curves = [need(p).figures["curve"][name] for p in parts]
        return {"x": [c[0] for c in curves[0]], "y": [round(float(np.mean([c[i][1] for c in curves])), 4) for i in range(len(curves[0]))],
                "seeds": [[round(y, 4) for _, y in c] for c in curves]}

    def steps_to(self, parts: Sequence[Part], level: float) -> list[int | None]:
        """For each seed the first development point of at least that accuracy."""
        return [next((int(step) for step, a in need(p).figures["curve"]["target"] if a >= level), None) for p in parts]

    def saved(self, a: str, b: str) -> dict | None:
        """steps_saved of two arms on the development set."""
        along = [np.array([[[c == "1" for c in row] for row in need(p).figures["right"]] for p in self.arm(n)], dtype=float) for n in (a, b)]
        return steps_saved([step for step, _ in self.arm(a)[0].figures["curve"]["target"]], *along)

    def runs(self, parts: Sequence[Part]) -> list[str]:
        return [str((p.folder / "run").relative_to(self.p.lab.out)) for p in parts]

    # -- the entries --

    def gain_and_loss(self) -> dict:
        rows, claims = [], []
        for w in self.s.widths:
            before, after = self.tests(self.base(w)), self.tests(self.tuned(w))
            row: dict = {"width": w, "parameters": need(self.p.special[w, self.s.seeds[0]]).figures["parameters"]}
            for key, sets in (("target", ("target",)), ("others", OTHERS), ("generic", ("generic",)), ("generic_ao", ("generic ao",))):
                a, b = score(after, *sets), score(before, *sets)
                row |= {f"{key}_before": accuracy(b), f"{key}_after": accuracy(a), f"{key}_change": difference(a, b)}
            row |= self.plateau(w)
            rows.append(row)
            claims += [claim(row["target_change"], "more"), claim(row["generic_change"], "less")]
        return {"title": "Target gain and generic loss, size by size", "rows": rows,
                "question": "What does specialisation give on the target, and what does it cost elsewhere?",
                "columns": [{"key": "parameters", "title": "parameters"}, *(
                    {"key": f"{k}_{t}", "title": f"{n} {t}", "unit": "accuracy"} for k, n in (("target", "word problems"), ("others", "other word problems"),
                                                                                            ("generic", "generic, chain of thought"), ("generic_ao", "generic, answer only"))
                    for t in ("before", "after", "change")), {"key": "undertrained", "title": "undertrained"},
                    {"key": "second_half", "title": "gain of the second half of the steps", "unit": "accuracy"}],
                "series": [{"name": f"{name}, width {w}", "x_title": "steps of specialisation", "y_title": "accuracy", **self.mean_curve(self.tuned(w), name)}
                           for w in self.s.widths for name in ("target", "generic")],
                "paper": "All sizes gain on the target and lose on BIG-Bench-Hard, with chain of thought down to 0.", "agrees": agreement(*claims),
                "summary": [f"{r['parameters']:,} parameters: word problems {points(r['target_change'])}, generic tasks {points(r['generic_change'])} with chain of thought, "
                            f"{points(r['generic_ao_change'])} answer only" + (" (undertrained)" if r["undertrained"] else "") for r in rows],
                "runs": self.runs([p for w in self.s.widths for p in self.base(w) + self.tuned(w)])}

    def plateau(self, width: int) -> dict:
        """Twice the steps of the half run, from the same start: what did they gain on the development sets?"""
        k = self.s.seeds[0]
        out = {}
        for name, whole, half in (("generic", self.p.generic[width, k], self.p.half[width][0]), ("target", self.p.special[width, k], self.p.half[width][1])):
            out[name] = round(need(whole).figures["curve"][name][-1][1] - need(half).figures["curve"][name][-1][1], 4)
        return {"second_half": out, "undertrained": [name for name, gain in out.items() if gain > PLATEAU]}

    def scaling(self) -> dict:
        x = [math.log10(need(self.p.special[w, self.s.seeds[0]]).figures["parameters"]) for w in self.s.widths]
        rows = []
        for key, title, models, sets in (("target before", "word problems, before", self.base, ("target",)), ("target after", "word problems, after", self.tuned, ("target",)),
                                         ("others after", "other word problems, after", self.tuned, OTHERS),
                                         ("generic before", "generic tasks, before", self.base, ("generic",)), ("generic after", "generic tasks, after", self.tuned, ("generic",))):
            scores = [score(self.tests(models(w)), *sets) for w in self.s.widths]
            y = [value_of(s) for s in scores]
            fits = [f for f in need(self.p.fit).figures["fits"] if f["series"] == key]
            rows.append({"key": key, "what": title, "slope": bootstrap(scores, lambda v: float(np.polyfit(x, v, 1)[0]), seeds_paired=False), "fits": fits,
                         "intercept": round(float(np.polyfit(x, y, 1)[1]), 4), "r2": round(next(f["r2"] for f in fits if f["of"] == "accuracy"), 4), "x": [round(v, 4) for v in x], "y": [round(v, 4) for v in y]})
        after, n = rows[1]["slope"], len(x)
        both = [score(self.tests(models(w)), "target") for models in (self.base, self.tuned) for w in self.s.widths]
        steeper = bootstrap(both, lambda v: float(np.polyfit(x, v[n:], 1)[0] - np.polyfit(x, v[:n], 1)[0]), seeds_paired=False)
        return {"title": "Scaling: accuracy against log10 parameters", "rows": rows, "question": "How does accuracy grow with size, before and after specialisation?",
                "columns": [{"key": "what", "title": "accuracy of"}, {"key": "slope", "title": "slope", "unit": "accuracy for ten times the parameters"},
                            {"key": "intercept", "title": "intercept"}, {"key": "r2", "title": "R^2, a description of so few points"}],
                "series": [{"name": r["what"], "x_title": "log10 parameters", "y_title": "accuracy", "x": r["x"], "y": r["y"],
                            "fit": {"slope": r["slope"]["value"], "intercept": r["intercept"]}} for r in rows],
                "paper": "After specialisation accuracy grows about linearly with log parameters; before it the small sizes are flat.",
                "agrees": agreement(claim(after, "more"), claim(steeper, "more")),
                "summary": [f"{r['what']}: {100 * r['slope']['value']:.1f} points for ten times the parameters [{100 * r['slope']['low']:.1f}, {100 * r['slope']['high']:.1f}], "
                            f"R^2 {r['r2']:.2f} of {len(x)} sizes" for r in rows],
                "runs": self.runs([p for w in self.s.widths for p in self.base(w) + self.tuned(w)])}

    def compare_arms(self, names: Sequence[str], against: str, sets: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[dict]:
        """A row for each arm: parameters, accuracy on each set, difference to the arm `against`."""
        rows = []
        for name in names:
            row: dict = {"arm": name, "parameters": need(self.arm(name)[0]).figures["parameters"]}
            for key, _, files in sets:
                a, b = score(self.tests(self.arm(name)), *files), score(self.tests(self.arm(against)), *files)
                row[key] = accuracy(a)
                if name != against:
                    row[f"{key}_difference"] = difference(a, b)
            rows.append(row)
        return rows

    def arm_columns(self, against: str, sets: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[dict]:
        return [{"key": "arm", "title": "arm"}, {"key": "parameters", "title": "parameters"}] + [
            {"key": f"{key}{end}", "title": title + more, "unit": "accuracy"} for key, title, _ in sets for end, more in (("", ""), ("_difference", f" less that of: {against}"))]

    def learning(self, names: Sequence[str]) -> tuple[list[dict], list[dict]]:
        """Curves of the arms on the development set, and the steps to each level that the mean of every arm reaches."""
        series = [{"name": n, "x_title": "steps", "y_title": "accuracy on the development set", **self.mean_curve(self.arm(n), "target")} for n in names]
        rows = [{"level": level, **{n: self.steps_to(self.arm(n), level) for n in names}} for level in LEVELS
                if any(max(s["y"]) >= level for s in series)]
        return series, rows

    TARGET = (("target", "word problems", ("target",)), ("others", "other word problems", OTHERS))

    def matching(self) -> dict:
        names = ("all formats, distribution", "sample matching")
        rows = self.compare_arms(names, names[1], self.TARGET)
        series, reached = self.learning(names)
        d, saved = rows[0]["target_difference"], self.saved(*names)
        return {"title": "Distribution against sample matching", "rows": rows, "steps_to_reach": reached, "series": series, "columns": self.arm_columns(names[1], self.TARGET),
                "question": "Does the teacher's whole distribution teach faster than its words?",
                "paper": "Distribution matching converges faster and ends higher.", "agrees": agreement(claim(d, "more"), claim(saved, "more") if saved else "undecided"), "steps_saved": saved,
                "summary": [f"at the end: distribution less sample {points(d)} on word problems",
                            *(f"steps to {100 * r['level']:.0f} %: distribution {show_steps(r[names[0]])}, sample {show_steps(r[names[1]])}" for r in reached),
                            *show_saved(saved, "distribution", "sample")],
                "runs": self.runs([p for n in names for p in self.arm(n)])}

    def formats(self) -> dict:
        names = ("all formats, distribution", "zero-shot only", "in-context only")
        sets = (("zero_shot", "word problems, zero-shot", ("target",)), ("in_context", "word problems, in-context", ("target ic",)),
                ("generic", "generic tasks", ("generic",)))
        rows = self.compare_arms(names, names[0], sets)
        lost_in_context = rows[1]["in_context_difference"]
        # At least half of what all formats reach without examples.
        keeps = bootstrap([score(self.tests(self.arm(n)), "target") for n in (names[2], names[0])], lambda v: v[0] - 0.5 * v[1])
        return {"title": "Formats: in-context only, zero-shot only, all four", "rows": rows, "columns": self.arm_columns(names[0], sets),
                "question": "Which formats must the training data have for which setting?",
                "series": [{"name": n, "x_title": "steps", "y_title": "accuracy on the development set, zero-shot", **self.mean_curve(self.arm(n), "target")} for n in names],
                "paper": "In-context data keep the zero-shot ability; zero-shot data alone lose the in-context ability.",
                "agrees": agreement(claim(lost_in_context, "less"), claim(keeps, "more")),
                "summary": [f"{r['arm']}: zero-shot {percent(r['zero_shot'])}, in-context {percent(r['in_context'])}" for r in rows]
                + [f"zero-shot only, tested in context: {points(lost_in_context)} against all formats",
                   f"in-context only, tested zero-shot: {points(rows[2]['zero_shot_difference'])} against all formats"],
                "runs": self.runs([p for n in names for p in self.arm(n)])}

    def start(self) -> dict:
        names = ("all formats, distribution", "from random weights")
        rows = self.compare_arms(names, names[1], self.TARGET)
        series, reached = self.learning(names)
        d, saved = rows[0]["target_difference"], self.saved(*names)
        return {"title": "Start: the generic checkpoint or random weights", "rows": rows, "steps_to_reach": reached, "series": series,
                "columns": self.arm_columns(names[1], self.TARGET), "question": "What is the generic training before the specialisation worth?",
                "paper": "An instruction-tuned start (Flan-T5) ends higher than the raw one (T5); random weights were not tried.", "agrees": agreement(claim(d, "more")), "steps_saved": saved,
                "summary": [f"generic start less random start: {points(d)} on word problems, {points(rows[0]['others_difference'])} on the others",
                            *(f"steps to {100 * r['level']:.0f} %: generic {show_steps(r[names[0]])}, random {show_steps(r[names[1]])}" for r in reached),
                            *show_saved(saved, "generic", "random")],
                "runs": self.runs([p for n in names for p in self.arm(n)])}

    def selection(self) -> dict:
        rows: list[dict] = []
        chosen: dict[str, list[dict]] = {}
        for k in self.s.seeds:
            figures = need(self.p.selects[k]).figures
            for rule, step in figures["rules"].items():
                at = figures["points"][str(step)]
                chosen.setdefault(rule, []).append(at)
                mean = lambda names: round(float(np.mean([at[n]["accuracy"] for n in names])), 4)  # noqa: B023, E731: used at once
                rows.append({"seed": k, "rule": rule, "step": step, "dev_target": mean(["target dev"]), "dev_others": mean([f"{n} dev" for n in OTHERS]),
                             "target": mean(["target"]), "others": mean(OTHERS), "generic": mean(["generic"])})
        best, price = (difference(scores_at(chosen["best-mean-ood"], *sets), scores_at(chosen["best-id"], *sets)) for sets in (OTHERS, ("target",)))
        return {"title": "Selection: which checkpoint each rule takes", "rows": rows, "question": "Is the best checkpoint on the target also the best elsewhere?",
                "columns": [{"key": "seed", "title": "seed"}, {"key": "rule", "title": "rule"}, {"key": "step", "title": "step"},
                            *({"key": key, "title": title, "unit": "accuracy"} for key, title in
                              (("dev_target", "development, word problems"), ("dev_others", "development, others"), ("target", "test, word problems"),
                               ("others", "test, others"), ("generic", "test, generic")))],
                "difference": {"others": best, "target": price}, "series": [], "agrees": agreement(claim(best, "more")),
                "paper": "The best checkpoint in distribution is not the best out of distribution; the mean of the latter should choose.",
                "summary": [f"best-mean-ood less best-id: {points(best)} on the other word problems, {points(price)} on those trained for"]
                + [f"{rule}: steps {', '.join(str(r['step']) for r in rows if r['rule'] == rule)}; word problems {percent(value_of(scores_at(at, 'target')))}, "
                   f"others {percent(value_of(scores_at(at, *OTHERS)))}" for rule, at in chosen.items()],
                "runs": self.runs(self.tuned(self.m))}

    def sweep(self) -> dict:
        rows = []
        for a in self.s.alphas:
            at = [need(self.p.sweeps[k]).figures["points"][f"{a:g}"] for k in self.s.seeds]
            rows.append({"alpha": a, **{key: accuracy(scores_at(at, *sets)) for key, sets in
                                        (("target", ("target",)), ("others", OTHERS), ("generic", ("generic",)), ("generic_ao", ("generic ao",)))}})
        ends = (rows[0], rows[-1])
        both = [scores_at([self.p.sweeps[k].figures["points"][f"{r['alpha']:g}"] for k in self.s.seeds], "target", "generic") for r in rows]
        for r, here in zip(rows, both, strict=True):
            r["mean"] = accuracy(here)
            r["above_the_line"] = bootstrap([here, both[0], both[-1]], lambda v, a=r["alpha"]: v[0] - (1 - a) * v[1] - a * v[2])
        inner = rows[1:-1]
        best = max(inner, key=lambda r: r["mean"]["value"], default=ends[1])
        found = {v: ", ".join(f"{r['alpha']:g}" for r in inner if verdict(r["above_the_line"]) == v) or "none" for v in ("more", "less")}
        return {"title": "Weights between the generic and the specialised model", "rows": rows, "question": "Is there a better trade on the line between the two?",
                "columns": [{"key": "alpha", "title": "alpha (0: generic, 1: specialised)"}, *({"key": key, "title": title, "unit": "accuracy"} for key, title in (
                    ("target", "word problems"), ("others", "other word problems"), ("generic", "generic, chain of thought"), ("generic_ao", "generic, answer only"), ("mean", "mean of word problems and generic"),
                    ("above_the_line", "that mean less the straight line between the ends")))],
                "series": [{"name": title, "x_title": "alpha", "y_title": "accuracy", "x": [r["alpha"] for r in rows], "y": [r[key]["value"] for r in rows]}
                           for key, title in (("target", "word problems"), ("others", "other word problems"), ("generic", "generic tasks"))],
                "paper": "Not in the paper: Gueta et al. 2023 and Wortsman et al. 2022 find models between two of one ancestor at least as good as the line between the ends.",
                "agrees": True if found["more"] != "none" else False if all(verdict(r["above_the_line"]) == "less" for r in inner) else None,
                "summary": [f"between the ends, alpha {best['alpha']:g} has the best mean: word problems {percent(best['target'])}, generic {percent(best['generic'])}",
                            f"the ends: {percent(ends[0]['target'])} and {percent(ends[0]['generic'])} at 0, {percent(ends[1]['target'])} and {percent(ends[1]['generic'])} at 1",
                            f"mean of both above the straight line between the ends at alpha {found['more']}; below it at {found['less']}"],
                "runs": self.runs(self.base(self.m) + self.tuned(self.m))}

    def architecture(self) -> dict:
        names = list(self.p.shapes)
        rows = self.compare_arms(names, "2+2", self.TARGET)
        small = ("1+1 of the generic 2+2", "1+1 from random weights", "all formats, distribution")
        rows += self.compare_arms(small[:2], small[1], self.TARGET)
        for row in rows:
            c = self.arm(row["arm"])[0].config.get("shape")
            row["shape"] = {k: c[k] for k in ("d_model", "d_ff", "num_layers", "num_decoder_layers")} if c else None
        from_deeper = rows[len(names)]["target_difference"]
        against_whole = difference(score(self.tests(self.arm(small[0])), "target"), score(self.tests(self.arm(small[2])), "target"))
        return {"title": "The architecture itself", "rows": rows, "question": "At equal parameters: depth or width, encoder or decoder? And can a shallower student be cut from a deeper one?",
                "columns": self.arm_columns("2+2, or 1+1 from random weights for the cut one", self.TARGET),
                "series": [{"name": n, "x_title": "steps", "y_title": "accuracy on the development set", **self.mean_curve(self.arm(n), "target")} for n in (*names, *small[:2])],
                "paper": "Not in the paper.", "agrees": None,
                "summary": [*(f"{r['arm']} layers ({r['parameters']:,} parameters): {percent(r['target'])}" + (f", {points(r['target_difference'])} against 2+2" if "target_difference" in r else "")
                              for r in rows[: len(names)]),
                            f"one layer a side cut from the generic model: {points(from_deeper)} against random weights of that shape, {points(against_whole)} against the whole one"],
                "runs": self.runs([p for n in (*names, *small[:2]) for p in self.arm(n)])}

    def rehearsal(self) -> dict:
        names = ("all formats, distribution", "with rehearsal")
        sets = (*self.TARGET, ("generic", "generic tasks", ("generic",)), ("generic_ao", "generic, answer only", ("generic ao",)))
        rows = self.compare_arms(names, names[0], sets)
        r = rows[1]
        return {"title": "Beside the eight: an eighth of generic tasks in the batches", "rows": rows, "columns": self.arm_columns(names[0], sets),
                "question": "Does rehearsal keep what specialisation loses?",
                "series": [{"name": f"{n}: {what}", "x_title": "steps", "y_title": "accuracy on the development set", **self.mean_curve(self.arm(n), what)}
                           for n in names for what in ("target", "generic")],
                "paper": "Not in the paper.", "agrees": None,
                "summary": [f"with rehearsal: word problems {points(r['target_difference'])}, generic tasks {points(r['generic_difference'])} against without"],
                "runs": self.runs([p for n in names for p in self.arm(n)])}

    def entries(self) -> list[dict]:
        """The eight of the paper in miniature."""
        made = (self.gain_and_loss, self.scaling, self.matching, self.formats, self.start, self.selection, self.sweep, self.architecture)
        return [entry_of(number, make) for number, make in enumerate(made, 1)]

    def beside(self) -> list[dict]:
        """What was measured besides."""
        return [entry_of("rehearsal", self.rehearsal)]


def entry_of(ident: int | str, make: Callable[[], dict]) -> dict:
    """An entry that waits for unfinished parts says so."""
    entry: dict = {"id": ident, "key": make.__name__}
    try:
        return entry | {"state": "complete", **make()}
    except Waiting as w:
        return entry | {"state": "waiting", "waits_for": str(w)}


def show_steps(steps: Sequence[int | None]) -> str:
    return ", ".join("never" if s is None else str(s) for s in steps)


def show_saved(saved: dict | None, a: str, b: str) -> list[str]:
    if saved is None:
        return []
    levels = ", ".join(f"{100 * level:.0f} %" for level in saved["levels"])
    return [f"{a} reaches {levels} {saved['value']:.0f} steps [{saved['low']:.0f}, {saved['high']:.0f}] before {b}, on the mean of these and of the seeds"]
