#!/usr/bin/env python3
"""Makes tests/fixtures/loss/torch.json with PyTorch (not needed to build or test): batches, and what PyTorch's own functions and its
autograd say about each loss. Everything is in double; the test compares in single precision.

    python3 tests/tools/make_loss_fixtures.py
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "loss" / "torch.json"
T, V, K = 6, 19, 4
torch.manual_seed(20)
torch.set_default_dtype(torch.float64)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """What single precision holds, so that both sides start from the same numbers."""
    return x.float().double()


logits = rounded(torch.randn(T, V) * 3)
labels = torch.randint(V, (T,))
dense = torch.softmax(torch.randn(T, V) * 2, 1)
top, ids = dense.topk(K, 1)
top = rounded(top)
dense = rounded(dense)
dense = dense / dense.sum(1, keepdim=True)
rows = torch.zeros(T, V).scatter(1, ids, top)
tails = 1 - top.sum(1)
chunks = [(0, 2, -1.25), (2, 3, -0.0625), (3, 6, -4.0)]


def bucketed(z: torch.Tensor, t: float) -> torch.Tensor:
    """Log-probabilities of the row's tokens and of the class of all others, sharpened."""
    inside = z.gather(1, ids)
    outside = z.scatter(1, ids, -math.inf).logsumexp(1, keepdim=True)
    return F.log_softmax(torch.cat([inside, outside], 1) / t, 1)


def teacher(t: float) -> torch.Tensor:
    return F.softmax(torch.cat([top, tails[:, None]], 1).log() / t, 1)


def js(p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    log_m = ((p + log_q.exp()) / 2).log()
    return (F.kl_div(log_m, p, reduction="none") + F.kl_div(log_m, log_q, reduction="none", log_target=True)).sum(1) / 2


def alm(z: torch.Tensor, t: float) -> torch.Tensor:
    """Binary cross-entropy of the coins less the teacher's entropy, once for each position of the chunk."""
    nll = -F.log_softmax(z, 1).gather(1, labels[:, None])[:, 0]
    out = torch.zeros(T)
    for first, last, logprob in chunks:
        b, a = (-nll[first:last].sum() / t).exp(), torch.tensor(logprob / t).exp()
        out[first:last] = F.binary_cross_entropy(b, a) - F.binary_cross_entropy(a, a)
    return out


def sorted_l1(z: torch.Tensor) -> torch.Tensor:
    return (z.softmax(1).sort(1, descending=True).values[:, :K] - top).abs().sum(1)


def unlike(z: torch.Tensor) -> torch.Tensor:
    return -torch.log1p(-z.softmax(1).gather(1, labels[:, None])[:, 0])


def reference(z: torch.Tensor) -> torch.Tensor:
    """The formula of the authors' trainer."""
    return (rows * (rows / (z.softmax(1) + 1e-10) + 1e-10).log()).sum(1)


def ce(z: torch.Tensor, smoothing: float = 0) -> torch.Tensor:
    return F.cross_entropy(z, labels, reduction="none", label_smoothing=smoothing)


def kl_dense(z: torch.Tensor, t: float) -> torch.Tensor:
    return t * t * F.kl_div(F.log_softmax(z / t, 1), F.softmax(dense.log() / t, 1), reduction="none").sum(1)


CASES = [
    ("ce", {}, "rows", ce),
    ("ce", {"label_smoothing": 0.1}, "rows", lambda z: ce(z, 0.1)),
    ("kl", {}, "rows", lambda z: F.kl_div(F.log_softmax(z, 1), rows, reduction="none").sum(1)),
    ("kl", {}, "rows", reference),
    ("kl", {"tail": "renormalise"}, "rows", lambda z: F.kl_div(F.log_softmax(z, 1), rows / rows.sum(1, keepdim=True), reduction="none").sum(1)),
    ("kl", {"tail": "bucket"}, "rows", lambda z: F.kl_div(bucketed(z, 1), teacher(1), reduction="none").sum(1)),
    ("kl", {"tail": "bucket", "temperature": 2}, "rows", lambda z: 4 * F.kl_div(bucketed(z, 2), teacher(2), reduction="none").sum(1)),
    ("kl", {"temperature": 3}, "dense", lambda z: kl_dense(z, 3)),
    ("reverse_kl", {"tail": "bucket"}, "rows", lambda z: F.kl_div(teacher(1).log(), bucketed(z, 1), reduction="none", log_target=True).sum(1)),
    ("reverse_kl", {"temperature": 2}, "dense", lambda z: 4 * F.kl_div(F.log_softmax(dense.log() / 2, 1), F.log_softmax(z / 2, 1),
                                                                         reduction="none", log_target=True).sum(1)),
    ("js", {}, "dense", lambda z: js(dense, F.log_softmax(z, 1))),
    ("js", {"tail": "bucket"}, "rows", lambda z: js(teacher(1), bucketed(z, 1))),
    ("alm", {"alpha": 0}, "rows", lambda z: alm(z, 1)),
    ("alm", {"alpha": 0.25, "temperature": 2}, "rows", lambda z: 0.25 * ce(z) + 0.75 * alm(z, 2)),
    ("uld", {"alpha": 0}, "rows", sorted_l1),
    ("kl", {"alpha": 0.3, "label_smoothing": 0.2}, "rows",
     lambda z: 0.3 * ce(z, 0.2) + 0.7 * F.kl_div(F.log_softmax(z, 1), rows, reduction="none").sum(1)),
    ("kl", {"unlikelihood": 1}, "rows", unlike),
]


def main() -> None:
    cases = []
    for kind, options, targets, formula in CASES:
        z = logits.clone().requires_grad_()
        loss = formula(z).sum()
        loss.backward()
        # Where q is 1e-6, the reference's 1e-10 turns it by one part in 1e4.
        cases.append({"loss": dict(options, kind=kind), "targets": targets, "tolerance": 1e-4 if formula is reference else 3e-6, "value": loss.item(),
                      "gradient": [float(f"{g:.9g}") for g in z.grad.flatten().tolist()]})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    data = {"positions": T, "vocabulary": V, "k": K, "logits": logits.flatten().tolist(), "labels": labels.tolist(),
            "ids": ids.flatten().tolist(), "probs": top.flatten().tolist(), "dense": dense.flatten().tolist(),
            "chunks": [list(c) for c in chunks], "cases": cases}
    lines = ",\n".join(f"{json.dumps(k)}: " + ("[\n" + ",\n".join(map(json.dumps, v)) + "]" if k == "cases" else json.dumps(v))
                       for k, v in data.items())
    OUT.write_text("{" + lines + "}\n")


if __name__ == "__main__":
    main()
