"""examples/paper.sh: the generic tasks, the parts that are computed once, the statistics, and the whole at a size at which nothing is learned."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(FOLDER / "paper"))
np = pytest.importorskip("numpy")

import lab  # noqa: E402
import pictures  # noqa: E402
import plan  # noqa: E402
import results  # noqa: E402
import tasks  # noqa: E402


def lines(path: Path) -> list[dict]:
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]


# ---- generic tasks ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    tasks.write(out, train=200, dev=10, test=20, seed=3)
    return out


def value(text: str) -> int:
    """Of an expression of whole numbers, brackets, + - * and exact /."""
    assert re.fullmatch(r"[\d ()+*/-]+", text)
    return round(eval(text))  # noqa: S307: only digits and signs


def expected(kind: str, question: str) -> str:
    words = question.split()
    if kind == "arithmetic":
        return str(value(question.removeprefix("What is").removesuffix("?")))
    if kind == "boolean":
        text = question.removeprefix("Is this true :").removesuffix("?")
        assert set(text.split()) <= {"True", "False", "and", "or", "not", "(", ")"}
        return str(eval(text))  # noqa: S307: only these words
    if kind == "sorting":
        return " ".join(sorted(words[words.index(":") + 1 :]))
    if kind == "counting":
        return str(sum(int(words[i]) for i in range(len(words) - 1) if words[i].isdigit() and words[i + 1].rstrip(".") in tasks.FRUITS))
    if kind == "navigation":
        moves = re.findall(r"(\d+) steps (forward|back)", question)
        return "no" if sum(int(n) * (1 if way == "forward" else -1) for n, way in moves) else "yes"
    if kind == "brackets":
        open_: list[str] = []
        for mark in words[words.index(":") + 1 : -1]:
            if mark in tasks.BRACKETS:
                open_.append(tasks.BRACKETS[mark])
            else:
                assert open_.pop() == mark
        return " ".join(reversed(open_))
    if kind == "dates":
        month, day, later = re.search(r"is (\w+) (\d+)\. .* (\d+) days later", question).groups()
        names = [m for m, _ in tasks.MONTHS]
        day_of_year = sum(d for _, d in tasks.MONTHS[: names.index(month)]) + int(day) + int(later)
        at = 0
        while day_of_year > tasks.MONTHS[at % 12][1]:
            day_of_year -= tasks.MONTHS[at % 12][1]
            at += 1
        return f"{names[at % 12]} {day_of_year}"
    assert kind == "tracking"
    has = dict(re.findall(r"(\w+) owns the (\w+) ball", question))
    for a, b, c, d in re.findall(r"(\w+) and (\w+) swap|Next (\w+) takes the ball from (\w+)", question):
        x, y = (a, b) if a else (c, d)
        has[x], has[y] = has[y], has[x]
    return has[re.search(r"ball has (\w+) in", question).group(1)]


def test_answers_of_generic_tasks_are_right(made: Path) -> None:
    for row in lines(made / "train.jsonl"):
        assert row["task"] == row["id"].split("-")[0]
        assert row["answer"] == expected(row["id"].split("-")[0], row["question"]), row
    for kind in tasks.KINDS:
        for row in lines(made / "test" / f"{kind}.jsonl"):
            assert row["target"] == expected(kind, row["input"]), row


def test_rationales_of_generic_tasks_have_true_equations_of_small_numbers(made: Path) -> None:
    equations = [e for row in lines(made / "train.jsonl") for e in re.findall(r"(\d+ [-+*/] \d+) = (\d+)", row["rationale"])]
    assert len(equations) > 500 and all(value(left) == int(right) <= 99 for left, right in equations)


def test_no_test_question_is_trained_on(made: Path) -> None:
    trained = {row["question"] for row in lines(made / "train.jsonl")}
    for kind in tasks.KINDS:
        held = [row["input"] for part in ("dev", "test") for row in lines(made / part / f"{kind}.jsonl")]
        assert len(held) == len(set(held)) == 30 and not trained & set(held)


def test_same_options_same_generic_tasks(made: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 3), ("other", 4)):
        tasks.write(tmp_path / name, train=200, dev=10, test=20, seed=seed)
    assert (tmp_path / "again" / "replies.jsonl").read_bytes() == (made / "replies.jsonl").read_bytes()
    assert (tmp_path / "other" / "replies.jsonl").read_bytes() != (made / "replies.jsonl").read_bytes()


PYTHON_CAN = "REASONDISTILL_LIBRARY" in os.environ  # load the library of this build


def python_package() -> None:
    package = str(FOLDER.parent / "bindings" / "python")
    if package not in sys.path:
        sys.path.insert(0, package)


@pytest.mark.skipif(not PYTHON_CAN, reason="no library for Python")
def test_in_context_items_show_examples_of_their_own_kind(made: Path, tmp_path: Path) -> None:
    python_package()
    import reasondistill as rd

    word_problems(tmp_path / "words", "--words", str(made / "words.txt"))
    kinds = {"".join(row["question"].split()): row["id"].split("-")[0] for row in lines(made / "train.jsonl")}
    with rd.Context() as ctx, rd.Tokenizer(ctx, tmp_path / "words" / "spiece.model") as tok:
        rd.build_dataset(ctx, made / "train.jsonl", None, tmp_path / "data", formats=1 << 2, shots=2)
        with rd.Dataset(ctx, tmp_path / "data", tok, {"ic-ao": 1}) as data:
            batches = [data.batch(i).arrays for i in range(10)]
            texts = [tok.decode(x["enc_ids"][a:b]) for x in batches for a, b in zip(x["enc_offsets"][:-1], x["enc_offsets"][1:])]
    shown = [[kinds["".join(re.split(r"\bA:", q)[0].split())] for q in text.split("Q:")[1:]] for text in texts]
    assert len(shown) > 20 and all(len(k) == 3 and len(set(k)) == 1 for k in shown), shown
    assert {k[0] for k in shown} == set(tasks.KINDS)


def test_replies_of_generic_tasks_join_to_their_text(made: Path) -> None:
    for row, question in zip(lines(made / "replies.jsonl"), lines(made / "train.jsonl"), strict=True):
        choice = row["choices"][0]
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"] == f"{question['rationale']}\nThe answer is {question['answer']}"


# ---- word problems of other kinds, in other words ----


def word_problems(out: Path, *options: str, status: int = 0) -> list[dict]:
    done = subprocess.run([os.environ["WORDPROBLEMS"], "--out", str(out), "--problems", "0", "--heldout", "60", *options], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return lines(out / "heldout.jsonl") if status == 0 else []


def test_word_problems_have_the_steps_of_the_kinds_asked_for(tmp_path: Path) -> None:
    signs = {"".join(re.findall(r"\d ([-+*/]) \d", row["rationale"])) for row in word_problems(tmp_path, "--kinds", "S-+-+ P*")}
    assert signs == {"-+-+", "**"}


def test_word_problems_in_other_words_share_no_sentence_with_the_usual_ones(tmp_path: Path) -> None:
    def sentences(rows: list[dict]) -> set[str]:
        names = "|".join(tasks.NAMES)
        return {re.sub(rf"\d+|\b({names})\b", "#", s) for row in rows for s in re.findall(r"[^.?]+[.?]", row["question"])}

    assert not sentences(word_problems(tmp_path / "a")) & sentences(word_problems(tmp_path / "b", "--wording", "other"))


@pytest.mark.parametrize("kind", ["+S", "S/+", "SQ", "S", "Sx", ""])
def test_a_kind_of_word_problem_that_makes_no_story_is_refused(kind: str, tmp_path: Path) -> None:
    word_problems(tmp_path, "--kinds", kind, status=2)


def test_words_from_a_file_become_pieces(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("zebra [ grows\n")
    word_problems(tmp_path, "--words", str(tmp_path / "words.txt"))
    model = (tmp_path / "spiece.model").read_bytes()
    assert all("\u2581".encode() + word in model for word in (b"zebra", b"[", b"grows"))


# ---- parts ----


def a_lab(out: Path) -> lab.Lab:
    return lab.Lab(out, 2, "build", lambda text: None)


def test_a_finished_part_is_not_computed_again_and_another_configuration_is_another_part(tmp_path: Path) -> None:
    calls = []

    def work(part: lab.Part) -> dict:
        calls.append(part.name)
        return {"n": part.config["n"] + sum(p.figures["n"] for p in part.needs)}

    def both(l: lab.Lab, n: int) -> lab.Part:
        first = l.part("first", {"n": n}, [], work)
        second = l.part("second", {"n": 10}, [first], work)
        l.run([second, first])  # needs decide the order
        return second

    assert both(a_lab(tmp_path), 1).figures == {"n": 11} and both(a_lab(tmp_path), 1).figures == {"n": 11}
    assert calls == ["first", "second"]
    assert both(a_lab(tmp_path), 2).figures == {"n": 12}  # what needs a changed part changes, too
    assert calls == ["first", "second"] * 2


def test_progress_tells_how_long_the_rest_takes(tmp_path: Path) -> None:
    said: list[str] = []
    l = lab.Lab(tmp_path, 1, "build", said.append)
    parts = [l.part(f"p{i}", {}, [], lambda p: {}, cost=600) for i in range(3)]
    l.run(parts)
    assert said[0] == "3 parts, about 30:00 on quiet cores"
    rest = [60 * int(m[1]) + int(m[2]) for row in said[1:] if (m := re.search(r", (\d+):(\d\d) left\] p", row))]
    assert 200 > rest[0] > rest[1] > rest[2] == 0  # they took no time: what is left is corrected


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    l = a_lab(tmp_path)
    part = l.part("bad", {}, [], lambda p: {"said": p.run("sh", "-c", "echo why; exit 3")})
    with pytest.raises(lab.Failed, match="exit status 3: why"):
        l.run([part])
    assert not part.done and "why" in (part.folder / "log.txt").read_text()


def test_commands_of_a_killed_driver_end_before_the_next_call_begins_one(tmp_path: Path) -> None:
    script = (f"import sys; sys.path.insert(0, {str(FOLDER / 'paper')!r}); import lab, pathlib; l = lab.Lab(pathlib.Path({str(tmp_path)!r}), 1, 'b');"
              "l.wait_for_orphans(); l.command(l.out, ['sh', '-c', 'trap : TERM; touch begun; sleep 1.5; sleep 1; touch ended'])")
    driver = subprocess.Popen([sys.executable, "-c", script])
    limit = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    said: list[str] = []
    l = lab.Lab(tmp_path, 1, "build", said.append)
    l.wait_for_orphans()
    assert said == ["waiting for the last commands of a call that was killed"] and (tmp_path / "ended").exists()
    l.command(tmp_path, ["true"])
    lab.Lab(tmp_path / "other", 1, "build", said.append).wait_for_orphans()
    assert len(said) == 1


# ---- statistics ----


def accuracies(p: float, seeds: int = 3, items: int = 300, seed: int = 0) -> list:
    return [(np.random.default_rng(seed).random((seeds, items)) < p).astype(float)]


def test_intervals_hold_the_value_and_tell_apart_what_differs() -> None:
    high, low = accuracies(0.6), accuracies(0.4, seed=1)
    d = results.difference(high, low)
    assert d["low"] < d["value"] < d["high"] and results.verdict(d) == "more" and results.verdict(results.difference(low, high)) == "less"
    same = results.difference(accuracies(0.5), accuracies(0.5, seed=2))
    assert same["low"] < 0 < same["high"] and results.verdict(same) == "undecided"
    assert results.accuracy(high)["value"] == pytest.approx(high[0].mean(), abs=1e-4)


def test_the_interval_covers_seeds_that_differ() -> None:
    steady = accuracies(0.5)
    seeds = [np.stack([np.arange(300) < n for n in (30, 150, 270)]).astype(float)]
    width = lambda s: results.accuracy(s)["high"] - results.accuracy(s)["low"]  # noqa: E731
    assert width(seeds) > 3 * width(steady)


def test_steps_saved_are_those_between_the_curves_with_an_interval() -> None:
    x = list(range(0, 1100, 100))
    along = lambda late, seed: np.stack([(np.random.default_rng([seed, k]).random((11, 300)) < np.clip((np.array(x)[:, None] - late) / 800, 0, 1)) for k in range(3)]).astype(float)  # noqa: E731
    early, late = along(0, 1), along(150, 2)
    saved = results.steps_saved(x, early, late)
    assert saved["levels"] == [0.1, 0.25, 0.5, 0.75, 0.9] and saved["value"] == pytest.approx(150, abs=30) and 80 < saved["low"] < saved["value"] < saved["high"] < 220
    assert results.steps_saved(x, late, early)["value"] == -saved["value"]
    same = results.steps_saved(x, along(0, 3), along(0, 4))
    assert same["low"] < 0 < same["high"]
    assert results.steps_saved(x, early, 0 * late) is None  # no level that both reach
    assert results.step_of([0, 10, 20], [0.0, 0.2, 0.6], 0.4) == pytest.approx(15) and results.step_of([0, 10], [0.1, 0.2], 0.5) == 10


def test_sets_weigh_the_same_whatever_their_size() -> None:
    assert results.value_of([np.ones((2, 10)), np.zeros((2, 1000))]) == 0.5


def test_claims_decide_what_is_said_of_the_paper() -> None:
    assert results.agreement("yes", "yes") is True and results.agreement("yes", "no") is False and results.agreement("yes", "undecided") is None


def test_shapes_compared_at_equal_parameters_have_them() -> None:
    for scale in ("quick", "default", "full"):
        shapes = plan.architectures(plan.SCALES[scale].middle, 504)
        base = plan.parameters(shapes["2+2"])
        assert len(shapes) == 5 and all(abs(plan.parameters(c) / base - 1) < 0.02 for c in shapes.values())


def test_a_chart_has_a_line_for_each_series_and_escapes_its_names() -> None:
    series = [{"name": name, "x_title": "steps", "y_title": "accuracy", "x": [0, 10, 20], "y": [0, 0.5, 0.7]} for name in ("a < b", "c")]
    svg = pictures.chart("A & B", series)
    assert svg.count("<polyline") == 2 and "a &lt; b" in svg and "A &amp; B" in svg
    assert pictures.ticks(0, 70) == [0, 20, 40, 60]


def test_a_chart_of_fitted_points_has_the_line_through_them() -> None:
    points = {"name": "a", "x_title": "x", "y_title": "y", "x": [0, 1, 2], "y": [0.0, 0.6, 0.6]}
    line = {**points, "y": [0.1, 0.4, 0.7]}
    drawn = pictures.chart("A", [{**points, "fit": {"slope": 0.3, "intercept": 0.1}}, line])
    straight = re.findall(r'points="([^"]*)"', drawn)
    assert straight[0].split() == [straight[1].split()[0], straight[1].split()[-1]] and drawn.count("<circle") == 6


# ---- the whole, killed and gone on with ----


def start(out: Path) -> subprocess.Popen[str]:
    build = Path(os.environ["EXAMPLES"]).parent
    return subprocess.Popen(["sh", str(FOLDER / "paper.sh"), "--tiny", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env={**os.environ, "PAPER_BUILD": str(build), "PYTHON": sys.executable}, start_new_session=True)


def finished(out: Path) -> dict[str, float]:
    return {p.parent.name: p.stat().st_mtime for p in out.glob("parts/*/part.json")}


def test_the_whole_is_killed_goes_on_and_writes_eight_entries(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(out)
    limit = time.monotonic() + 200
    while len(finished(out)) < 6 and first.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = finished(out)
    assert 6 <= len(before) and not (out / "paper.json").exists()
    second = start(out)
    while not finished(out).keys() - before.keys() and second.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    beside = start(out)
    assert "another process is at work" in beside.communicate(timeout=60)[0] and beside.returncode == 1
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said[-3000:]
    after = finished(out)
    assert before.items() <= after.items()  # nothing that was finished has been written again
    paper = json.loads((out / "paper.json").read_text())
    assert [e["id"] for e in paper["entries"]] == [1, 2, 3, 4, 5, 6, 7, 8] and [e["id"] for e in paper["beside"]] == ["rehearsal"]
    for entry in paper["entries"] + paper["beside"]:
        assert entry["state"] == "complete" and entry["question"] and entry["rows"] and entry["summary"] and f"({entry['id']}) {entry['title']}" in said
        assert {c["key"] for c in entry["columns"]} <= {key for row in entry["rows"] for key in row}
        assert all((out / run / "metrics.jsonl").is_file() for run in entry["runs"])
    assert all(s["x"][0] == 0 and s["x"][-1] == 8 for s in paper["entries"][0]["series"])  # from before the first step to the last
    assert len(list((out / "pictures").glob("*.svg"))) == 8  # all but the selection have curves
    third = start(out)
    assert "parts were finished earlier" in third.communicate(timeout=300)[0] and finished(out) == after
    if not PYTHON_CAN:
        return
    python_package()
    from reasondistill.report import read_material, sections_of

    scaling = next(s for s in sections_of(read_material([out / "paper.json"])) if s.title == paper["entries"][1]["title"])
    fits = [line for b in scaling.blocks for line in getattr(b, "lines", []) if line.name.endswith(": fit")]
    x, y = (np.array([row[k] for row in paper["entries"][1]["rows"]]) for k in ("x", "y"))
    assert len(fits) == 5 and all(f.y == pytest.approx(100 * b, abs=1) for f, b in zip(fits, y, strict=True))  # two sizes: the line meets both
    if importlib.util.find_spec("matplotlib"):
        page = (out / "report.html").read_text(encoding="utf-8")
        for part in (*(entry["title"] for entry in paper["entries"] + paper["beside"]), "Training", "Outputs", "Configuration", "Alignment", "What each rule keeps"):
            assert f">{html.escape(part)}" in page, part
        assert "report.html: " in said and page.count("<img ") > 20
    else:
        assert "no report.html: report: report.html needs matplotlib" in said


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    other = start(tmp_path)
    said, _ = other.communicate(timeout=60)
    assert other.returncode == 2 and "not from an earlier run" in said and [p.name for p in tmp_path.iterdir()] == ["mine"]
