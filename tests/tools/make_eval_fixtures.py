"""tests/fixtures/eval/statistics.json: what SciPy, statsmodels and plain enumeration say about the statistics of evaluations.

    python3 tests/tools/make_eval_fixtures.py tests/fixtures/eval/statistics.json

Needs scipy and statsmodels; neither is needed to build or to test.
"""

from __future__ import annotations

import json
import math
import random
import sys
from fractions import Fraction
from itertools import combinations

from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint


def maj_at_k(votes: list[int], right: int, silent: int, k: int) -> float:
    """Every subset of k samples, looked at one by one."""
    samples = [a for a, n in enumerate(votes) for _ in range(n)] + [-1] * silent
    total, subsets = Fraction(0), 0
    for subset in combinations(samples, k):
        subsets += 1
        counts = {a: subset.count(a) for a in subset if a >= 0}
        leaders = [a for a, c in counts.items() if c == max(counts.values())]
        if right in leaders:
            total += Fraction(1, len(leaders))
    return float(total / subsets)


def newcombe(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Newcombe 1998, method 10: Wilson limits of both shares, squared and added, with the continuity-corrected phi."""
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    l1, u1 = proportion_confint(a + b, n, method="wilson")
    l2, u2 = proportion_confint(a + c, n, method="wilson")
    numerator = a * d - b * c
    numerator = max(numerator - n / 2, 0) if numerator > 0 else numerator
    denominator = math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    phi = numerator / denominator if denominator else 0
    low = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return p1 - p2 - low, p1 - p2 + high


def main() -> None:
    draw = random.Random(7)
    out: dict[str, list] = {"wilson": [], "maj": [], "mcnemar": [], "t": [], "fit": []}
    for k, n in [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (1, 1319), (660, 1319), (1318, 1319), (123456, 1000000)]:
        out["wilson"].append([k, n, *proportion_confint(k, n, method="wilson")])
    cases = [([3, 2], 0, 0), ([2, 2], 0, 0), ([2, 2, 2], 1, 0), ([1, 1, 1, 1], 2, 1), ([5], 0, 3), ([0, 4], 0, 2), ([2, 5, 1], 0, 0), ([4, 3, 3, 1], 0, 2),
             ([6, 6], 1, 0), ([1, 2, 3, 4], 3, 2)]
    cases += [([draw.randint(0, 4) for _ in range(draw.randint(1, 4))], 0, draw.randint(0, 3)) for _ in range(12)]
    for votes, right, silent in cases:
        n = sum(votes) + silent
        out["maj"] += [[votes, right, silent, k, maj_at_k(votes, right, silent, k)] for k in range(1, n + 1)]
    tables = [(5, 0, 0, 5), (10, 3, 1, 6), (36, 12, 2, 0), (53, 0, 0, 1), (0, 29, 25, 0), (500, 80, 40, 699), (0, 1, 0, 0), (3, 40, 41, 2), (700, 1, 13, 300),
              (100000, 5000, 5200, 90000), (2, 2000, 1, 2)]
    for a, b, c, d in tables:
        table = [[a, b], [c, d]]
        corrected = mcnemar(table, exact=False, correction=True) if b + c else None
        out["mcnemar"].append([a, b, c, d, stats.binomtest(b, b + c).pvalue if b + c else 1.0, float(corrected.statistic) if corrected else 0.0,
                               float(corrected.pvalue) if corrected else 1.0, *newcombe(a, b, c, d)])
    for share in (0.5, 0.1, 0.05, 0.01):
        out["t"] += [[share, df, float(stats.t.ppf(1 - share / 2, df))] for df in (1, 2, 3, 4, 5, 7, 10, 30, 101, 1000)]
    for n in (3, 4, 5, 12, 200):
        x = [draw.uniform(4, 10) for _ in range(n)]
        y = [0.2 * v - 0.7 + draw.gauss(0, 0.1) for v in x]
        f = stats.linregress(x, y)
        half = stats.t.ppf(0.975, n - 2) * f.stderr
        residual = math.sqrt(sum((b - f.intercept - f.slope * a) ** 2 for a, b in zip(x, y)) / (n - 2))
        out["fit"].append([x, y, f.slope, f.intercept, f.slope - half, f.slope + half, f.rvalue ** 2, residual])
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "]" for key, rows in out.items()) + "\n}\n")


if __name__ == "__main__":
    main()
