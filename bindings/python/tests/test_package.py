"""The package does the work: tokenise, align, a training step, generate; and says what is wrong."""

from __future__ import annotations

import base64
import gc
import gzip
import json
import selectors
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from reasondistill import Aligner, Batch, Context, Error, Loss, Optimizer, Reply, T5, Teacher, Tokenizer, compact_store, kernel_names, store_stats, verify_store

INPUTS, TARGETS = [[3, 4, 5, 1], [6, 7, 1]], [[5, 4, 3, 1], [7, 6, 1]]


def test_training_steps_lower_the_loss(ctx: Context, model: T5) -> None:
    batch = Batch.pack(INPUTS, TARGETS)
    with Loss(ctx, "ce") as loss, Optimizer(ctx, model, clip=1.0) as optimizer:
        losses = []
        for _ in range(40):
            model.forward(batch, train=True)
            losses.append(loss.apply(model, batch))
            model.backward()
            assert optimizer.step(1e-2) > 0
    assert losses[-1] < losses[0] / 2


def test_fused_steps_in_bf16_lower_the_loss_and_leave_what_is_frozen(ctx: Context, model: T5, tmp_path: Path) -> None:
    batch = Batch.pack(INPUTS, TARGETS)
    model.save(tmp_path / "half", dtype="bf16")
    with T5(ctx, tmp_path / "half", dtype="bf16") as half, Loss(ctx, "ce") as loss:
        assert half.freeze("shared.*") == 1
        half.recompute()
        before = half.param("shared.weight")
        with Optimizer(ctx, half, kind=Optimizer.ADAFACTOR, fused=1, clip=0.0) as optimizer:
            losses = []
            for _ in range(40):
                half.forward(batch, train=True)
                losses.append(loss.apply(half, batch))
                assert optimizer.backward(5e-2) > 0
        assert losses[-1] < losses[0] / 2
        assert (half.param("shared.weight") == before).all()


def test_kernels_are_chosen_by_name_and_the_backend_tells_them() -> None:
    names = kernel_names()
    assert names[-2:] == ["generic", "blas"]
    for name in names[:-1]:
        with Context(kernels=name) as ctx:
            assert ctx.backend.endswith(f"kernels: cpu {name}")
    with pytest.raises(Error, match="kernels 'abacus': this build and CPU have auto, .*generic, blas"):
        Context(kernels="abacus")


def test_loss_is_the_mean_of_the_log_probabilities(ctx: Context, model: T5) -> None:
    batch = Batch.pack(INPUTS, TARGETS)
    model.forward(batch)
    logits = model.logits().astype(np.float64)
    expected = logits[np.arange(7), batch.arrays["dec_ids"]] - np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(model.logprobs(), expected, atol=1e-5)
    with Loss(ctx, "ce") as loss:
        model.forward(batch, train=True)
        assert loss.apply(model, batch) == pytest.approx(-expected.mean(), rel=1e-5)


def test_gradient_agrees_with_finite_differences(ctx: Context, model: T5) -> None:
    batch = Batch.pack(INPUTS, TARGETS)
    name = next(n for n in model.params() if n.endswith("SelfAttention.v.weight"))
    with Loss(ctx, "ce") as loss:
        def value() -> float:
            model.forward(batch, train=True)
            return loss.apply(model, batch)

        value()
        model.backward()
        grad, weights, eps = model.grad(name), model.param(name), 1e-2
        direction = np.random.default_rng(0).standard_normal(weights.shape).astype(np.float32)
        model.set_param(name, weights + eps * direction)
        up = value()
        model.set_param(name, weights - eps * direction)
        assert (up - value()) / (2 * eps) == pytest.approx(float((grad * direction).sum()), rel=2e-2, abs=1e-3)


def test_losses_take_options_by_name(ctx: Context, model: T5) -> None:
    batch = Batch.pack(INPUTS, TARGETS, formats=[0] * len(TARGETS), chunk_begin=[0], chunk_end=[2], chunk_logprobs=[-1.0],
                       top_probs=np.tile([0.5, 0.25], (7, 1)))

    def value(kind: str, **options: float | str) -> float:
        with Loss(ctx, kind, **options) as loss:
            model.forward(batch, train=True)
            return loss.apply(model, batch)

    ce = value("ce")
    for kind in ("kl", "reverse_kl", "js", "alm", "uld"):
        assert value(kind, alpha=1.0) == ce
        assert value(kind, alpha=0.0, weight=2.0) == pytest.approx(2 * value(kind, alpha=0.0), rel=1e-6)
    assert value("kl", tail="bucket") == pytest.approx(ce, rel=1e-5)  # hard labels leave no tail
    assert value("ce", label_smoothing=0.5) != ce
    with Loss(ctx, "kl") as loss:
        loss.set_format("zs-ao", "ce", weight=3.0)
        model.forward(batch, train=True)
        assert loss.apply(model, batch) == pytest.approx(3 * ce, rel=1e-6)
        with pytest.raises(Error, match="format"):
            loss.set_format("zs-xx")
    with pytest.raises(ValueError, match="reverse_kl"):
        Loss(ctx, "mse")
    with pytest.raises(ValueError, match="bucket"):
        Loss(ctx, "kl", tail="bin")
    with pytest.raises(TypeError, match="temperature"):
        Loss(ctx, "kl", heat=2.0)
    with pytest.raises(Error, match="temperature"):
        Loss(ctx, "kl", temperature=0.0)


def test_soft_rows_are_used(ctx: Context, model: T5) -> None:
    rows = np.arange(0, 15, 2)
    ids = np.stack([np.concatenate(TARGETS), np.full(7, 9)], axis=1).ravel()
    batch = Batch.pack(INPUTS, TARGETS, row_offsets=rows, row_ids=ids, row_probs=np.tile([0.75, 0.25], 7))
    model.forward(batch)
    logits = model.logits().astype(np.float64)
    logq = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p = np.tile([0.75, 0.25], (7, 1))
    expected = (p * (np.log(p) - np.take_along_axis(logq, ids.reshape(7, 2), axis=1))).sum(axis=1).mean()
    with Loss(ctx, "kl") as loss:
        model.forward(batch, train=True)
        assert loss.apply(model, batch) == pytest.approx(expected, rel=1e-5)


def test_generation_follows_the_logits(model: T5) -> None:
    out = model.generate([INPUTS[0]], max_tokens=4)[0]
    assert len(out) > 0
    model.forward(Batch.pack([INPUTS[0]], [list(out)]))
    np.testing.assert_array_equal(model.logits().argmax(axis=1), out)


def test_samples_beams_and_stops(model: T5) -> None:
    samples = model.generate(INPUTS, max_tokens=9, n=4, mode="sample", temperature=1.5, top_k=8, top_p=0.95, seed=5, logprobs=True)
    again = model.generate(INPUTS, max_tokens=9, batch=1, n=4, mode="sample", temperature=1.5, top_k=8, top_p=0.95, seed=5)
    assert [len(x) for x in samples] == [4, 4]
    for some, same in zip(samples, again):
        for (ids, logprobs), other in zip(some, same):
            np.testing.assert_array_equal(ids, other)
            assert len(logprobs) in (len(ids), len(ids) + 1) and (logprobs <= 0).all()
    beams = model.generate(INPUTS, max_tokens=6, n=3, mode="beam", beams=3, length_penalty=0.0, logprobs=True)
    for hypotheses in beams:
        sums = [p.sum() for _, p in hypotheses]
        assert sums == sorted(sums, reverse=True) and len({tuple(i) for i, _ in hypotheses}) > 1
    assert all(len(x) <= 2 for x in model.generate(INPUTS, max_tokens=9, stop=lambda ids: len(ids) == 2))
    assert all((x < 5).all() for x in model.generate(INPUTS, max_tokens=9, vocab=5))
    with pytest.raises(ZeroDivisionError):
        model.generate(INPUTS, stop=lambda ids: 1 // 0)
    with pytest.raises(ValueError, match="greedy, sample, beam"):
        model.generate(INPUTS, mode="best")
    with pytest.raises(Error, match="temperature"):
        model.generate(INPUTS, mode="sample", temperature=-1.0)


def test_a_saved_model_is_the_same_model(ctx: Context, model: T5, tmp_path: Path) -> None:
    batch = Batch.pack(INPUTS, TARGETS)
    model.forward(batch)
    before = model.logits()
    model.save(tmp_path / "saved")
    with T5(ctx, tmp_path / "saved") as again:
        again.forward(batch)
        np.testing.assert_array_equal(again.logits(), before)


def test_arrays_are_not_copied(model: T5) -> None:
    ids = np.array([3, 4, 1], np.int32)
    offsets = np.array([0, 3], np.uint32)
    batch = Batch(enc_ids=ids, enc_offsets=offsets, dec_ids=ids, dec_offsets=offsets)
    assert batch.arrays["enc_ids"] is ids and batch.arrays["enc_offsets"] is offsets


@pytest.mark.parametrize("arrays", [
    {"enc_ids": [3], "enc_offsets": [0, 1], "dec_ids": [3]},
    {"enc_ids": [3], "enc_offsets": [0, 2], "dec_ids": [3], "dec_offsets": [0, 1]},
    {"enc_ids": [3], "enc_offsets": [0, 1], "dec_ids": [3], "dec_offsets": [0, 1], "weights": [1.0, 1.0]},
    {"enc_ids": [3], "enc_offsets": [0, 1], "dec_ids": [3], "dec_offsets": [0, 1], "row_offsets": [0, 2], "row_ids": [3], "row_probs": [1.0]},
])
def test_a_batch_whose_lengths_disagree_is_refused(arrays: dict) -> None:
    with pytest.raises((TypeError, ValueError)):
        Batch(**{k: np.asarray(v) for k, v in arrays.items()})


def test_a_byte_pair_vocabulary_is_told_how_it_cuts(ctx: Context, tmp_path: Path) -> None:
    pieces = [bytes([i]) for i in range(256)] + [b"23"]
    file = tmp_path / "bytes.tiktoken"
    file.write_bytes(b"".join(base64.b64encode(p) + b" %d\n" % i for i, p in enumerate(pieces)))
    with pytest.raises(Error, match="which pattern"):
        Tokenizer(ctx, file)
    # digits all together, or by threes
    for pattern, ids in (("gpt2", [49, 49, 256]), ("cl100k", [49, 49, 50, 51]), ("o200k", [49, 49, 50, 51])):
        with Tokenizer(ctx, file, pattern) as tok:
            assert tok.pattern == pattern and tok.encode("1123").tolist() == ids


def test_errors_carry_the_message_of_the_library(ctx: Context, model: T5, tmp_path: Path) -> None:
    with pytest.raises(Error, match="no-such-file") as e:
        Tokenizer(ctx, tmp_path / "no-such-file.model")
    assert e.value.status == -10
    with pytest.raises(Error, match="99"):
        model.forward(Batch.pack([[3, 99, 1]], [[3, 1]]))
    with pytest.raises(TypeError, match="no option"):
        Optimizer(ctx, model, no_such_option=0.9)
    with pytest.raises(KeyError):
        model.param("no.such.tensor")


def test_a_closed_handle_says_so(ctx: Context, model: T5) -> None:
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.info()
    gc.collect()


def test_a_closed_context_closes_what_was_opened_in_it(model: T5) -> None:
    with Context(threads=1) as other:
        loss = Loss(other)
    with pytest.raises(ValueError, match="closed"):
        loss.apply(model, Batch.pack(INPUTS, TARGETS))
    del loss
    gc.collect()
    assert model.info()["vocab"] == 16


def test_garbage_of_any_shape_is_collected(tmp_path: Path, model: T5) -> None:
    model.save(tmp_path / "saved")
    for forward in (True, False):
        other = Context(threads=1)
        handles: list = [other, T5(other, tmp_path / "saved"), Loss(other)]
        handles = handles if forward else handles[::-1]
        handles.append(handles)  # a cycle: the collector decides who goes first
        del other, handles
        gc.collect()


def test_a_handle_cannot_outlive_what_it_uses(ctx: Context, model: T5) -> None:
    optimizer = Optimizer(ctx, model)
    model.close()
    with pytest.raises(ValueError, match="T5 is closed"):
        optimizer.step(1e-3)
    optimizer.close()


@pytest.mark.parametrize("ids", [[2**31], [-2**31 - 1], [1.5], [2**40, 1], ["3"]])
def test_numbers_that_are_no_ids_are_refused(model: T5, ids: list) -> None:
    for call in (lambda: model.generate([ids]), lambda: Batch.pack([[1]], [ids]), lambda: Batch.pack([ids], [[1]])):
        with pytest.raises((TypeError, ValueError)):
            call()


def test_a_batch_without_weight_is_refused(ctx: Context, model: T5) -> None:
    batch = Batch.pack(INPUTS, TARGETS, weights=np.zeros(7))
    model.forward(batch, train=True)
    with Loss(ctx) as loss, pytest.raises(ValueError, match="weight above 0"):
        loss.apply(model, batch)


def test_options_that_do_not_fit_are_refused(ctx: Context, model: T5) -> None:
    with pytest.raises(ValueError, match="option max_tokens: 4294967297 does not fit"):
        model.generate([[3, 1]], max_tokens=2**32 + 1)
    with pytest.raises(ValueError, match="option seed"):
        Context(seed=-1)


def test_real_replies_are_collected_and_aligned(ctx: Context, pack: Path, tmp_path: Path) -> None:
    replies = pack / "teacher" / "codex_gsm8k_top5.jsonl"
    with Tokenizer(ctx, pack / "tokenizer" / "spiece.model") as tok, Aligner(ctx, tok) as aligner:
        assert len(tok) == 32100
        ids, begin, end = tok.spans("two  words")
        assert tok.decode(ids) == "two words" and begin[0] == 0 and end[-1] == 10
        with replies.open(encoding="utf-8", newline="\n") as lines, Reply(ctx, next(lines)) as reply:
            a = aligner.align(reply)
            assert len(a.kinds) == len(a.student_ids) == len(a.row_offsets) - 1
            assert "".join(t.decode() for t, _ in reply.tokens()) == reply.text
            assert aligner.json()["student_ids"] == a.student_ids.tolist()
            sums = np.add.reduceat(a.row_probs, a.row_offsets[:-1])
            assert (sums <= 1.0001).all() and (sums > 0).all()
            assert np.allclose(sums + a.tails, 1, atol=1e-5) and (a.weights == 1).all()
            heat = aligner.heatmap()
            mass = np.zeros((len(heat["tokens"]), len(heat["pieces"])))
            for token, piece, m in heat["cells"]:
                mass[token, piece] += m
            assert np.allclose(mass.sum(0), sums, atol=1e-5) and heat["kinds"] == a.kinds
            assert all(mass[m, s].sum() > 0 for s in range(len(a.kinds)) for m in [a.map[a.map_offsets[s]:a.map_offsets[s + 1]]])
            other = aligner.align(reply, a.text.replace("sold", "sod", 1))
            assert other.text != a.text and other.text == aligner.json()["student_text"] and "bridge" in other.kinds and "bridge" not in a.kinds
            assert aligner.align(reply, a.text).kinds == a.kinds
            with Aligner(ctx, tok, weights={"blank": 0.5}) as light:
                assert (light.align(reply).weights == np.where(np.array(a.kinds) == "blank", 0.5, 1)).all()
            with pytest.raises(ValueError, match="no kind 'soft'"):
                Aligner(ctx, tok, weights={"soft": 1})
        report = aligner.align_file(replies, tmp_path / "aligned.rsd")
        assert report["replies"] == 35
    with Teacher(ctx, f"replay:{replies}", store=tmp_path / "store.jsonl") as teacher, Reply(ctx, replies.open(encoding="utf-8").readline()) as first:
        teacher.submit(first.id, first.question, "72")
        got = list(teacher.replies())
    assert len(got) == 1 and got[0].correct and got[0].text.rstrip().endswith("72")


def row(id: str, sample: int, text: str, correct: bool | None) -> str:
    return json.dumps({"id": id, "sample": sample, "question": f"what is {id}?", "text": text, "tokens": None, "correct": correct}) + "\n"


def test_stores_are_looked_after(ctx: Context, tmp_path: Path) -> None:
    store = tmp_path / "teacher.jsonl"
    good = row("a", 0, "The answer is 7", True) + row("a", 1, "so The answer is 7.0", True) + row("a", 2, "The answer is 8", False) + row("b", 0, "?", None)
    store.write_text(good + row("a", 0, "The answer is 9", False) + "{")
    report, wrong = verify_store(ctx, store)
    assert report["rows"] == 4 and report["duplicates"] == 1 and report["torn"] == 1
    assert wrong and "line 5: a second row for question a, sample 0" in wrong
    compact_store(ctx, store)
    assert store.read_text() == good and verify_store(ctx, store)[1] is None
    questions, total = store_stats(ctx, store)
    assert [(q.id, q.total, q.kept, q.majority, q.votes, q.majority_correct) for q in questions] == [("a", 3, 2, "7", 2, True), ("b", 1, 0, "", 0, None)]
    assert total["correct"] == 2 and total["voted_right"] == 1
    assert store_stats(ctx, store, "lenient")[0][1].majority == "?"
    with pytest.raises(ValueError, match="no parser 'reference'"):
        store_stats(ctx, store, "reference")
    with pytest.raises(Error, match="none.jsonl"):
        store_stats(ctx, tmp_path / "none.jsonl")
    try:
        compact_store(ctx, store, gzip_to=tmp_path / "teacher.jsonl.gz")
    except Error as e:
        assert "without zlib" in str(e)
    else:
        assert gzip.decompress((tmp_path / "teacher.jsonl.gz").read_bytes()).decode() == good
        assert store_stats(ctx, tmp_path / "teacher.jsonl.gz")[0] == questions


@pytest.mark.parametrize(("parser", "correct"), [("strict", False), ("lenient", True)])
def test_replies_are_labelled_by_the_parser(ctx: Context, tmp_path: Path, parser: str, correct: bool) -> None:
    recorded = tmp_path / "replies.jsonl"
    recorded.write_text(json.dumps({"id": "r", "question": "2+2?", "choices": [{"text": "so 4", "logprobs": None}]}) + "\n")
    with Teacher(ctx, f"replay:{recorded}", top_logprobs=0, parser=parser) as teacher:
        teacher.submit("q", "2+2?", "4")
        assert [r.correct for r in teacher.replies()] == [correct]


class OneByOne(BaseHTTPRequestHandler):
    """Answers every request with one completion."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"text": "The answer is 4", "logprobs": None, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_loop_of_the_hosts_waits_for_the_teacher(ctx: Context) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneByOne)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Teacher(ctx, f"http://127.0.0.1:{server.server_port}/v1", model="m", top_logprobs=0, samples=2, per_request=1, api=1) as teacher:
            for i in range(5):
                teacher.submit(f"q{i}", "2+2?", "4")
            got, watched, limit = [], 0, time.monotonic() + 60
            while not teacher.finished and time.monotonic() < limit:
                reply = teacher.poll()
                if reply:
                    got.append((reply.id, reply.sample, reply.correct))
                elif not teacher.finished:
                    fds, seconds = teacher.wait_fds()
                    watched += len(fds)
                    with selectors.DefaultSelector() as s:
                        for fd, events in fds:
                            s.register(fd, events)
                        s.select(seconds)
            assert sorted(got) == [(f"q{i}", k, True) for i in range(5) for k in range(2)] and watched > 0
            assert teacher.wait_fds() == ([], 0.0) and teacher.stats()["stopped"] == 0
            teacher.stop()
            assert teacher.stats()["stopped"] == 1
    finally:
        server.shutdown()
