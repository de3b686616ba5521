"""Generic tasks in the spirit of BIG-Bench-Hard, small enough for a student of some ten thousand parameters.

    python3 tasks.py --out FOLDER [--train 2000] [--dev 30] [--test 50] [--seed 1]

writes, for each of the eight kinds below, `--train` questions with their solutions, and development and test questions that no training question equals:

    train.jsonl       {"id","task","question","answer","rationale"}, all kinds mixed; the task is the kind, so that in-context items show their own
    replies.jsonl     the same solutions as replies of a teacher that is certain: bodies of the completions endpoint, for `collect --teacher replay:`
    demos/KIND.jsonl  some of the training questions of one kind, to show as examples of it
    dev/KIND.jsonl, test/KIND.jsonl   {"id","input","target"}: folders for `eval --task bbh`
    words.txt         every word and mark in them, for the vocabulary

The same options give the same bytes. Numbers stay in 0..99, so that each is one piece of the student's vocabulary; marks stand between blanks for the same
reason. Whether a question is for training, development or test depends on a checksum of its text.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zlib
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple

NAMES = ("Anna Ben Clara David Emma Felix Grace Henry Irene Jack Kate Leo Maria Noah Olga Paul Rosa Sam Tina Tom").split()
FRUITS = "apples pears plums cherries lemons grapes".split()
OTHERS = "chairs balls books coins cards stones candles pens".split()
COLOURS = "red blue green black white yellow".split()
MONTHS = (("January", 31), ("February", 28), ("March", 31), ("April", 30), ("May", 31), ("June", 30), ("July", 31), ("August", 31), ("September", 30),
          ("October", 31), ("November", 30), ("December", 31))
BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}


class Item(NamedTuple):
    question: str
    rationale: list[str]
    answer: str


def boolean(r: random.Random) -> Item:
    steps: list[str] = []

    def grow(operators: int) -> tuple[str, bool]:
        if operators == 0:
            value = r.random() < 0.5
            return str(value), value
        if r.random() < 0.3:
            text, value = grow(operators - 1)
            text = f"( {text} )" if " " in text else text
            steps.append(f"not {value} = {not value}.")
            return f"not {text}", not value
        left = r.randrange(operators)
        (a, x), (b, y) = grow(left), grow(operators - 1 - left)
        word, value = ("and", x and y) if r.random() < 0.5 else ("or", x or y)
        steps.append(f"{x} {word} {y} = {value}.")
        return " ".join([f"( {a} )" if " " in a else a, word, f"( {b} )" if " " in b else b]), value

    text, value = grow(r.randint(2, 3))
    return Item(f"Is this true : {text} ?", steps, str(value))


def tracking(r: random.Random) -> Item:
    who = r.sample(NAMES, 3)
    has = r.sample(COLOURS, 3)
    told = [f"{w} owns the {c} ball." for w, c in zip(who, has)]
    steps = []
    for _ in range(r.randint(1, 2)):
        i, k = r.sample(range(3), 2)
        has[i], has[k] = has[k], has[i]
        told.append(r.choice([f"{who[i]} and {who[k]} swap balls.", f"Next {who[i]} takes the ball from {who[k]} and hands another ball to {who[k]}."]))
        steps.append(" ".join(f"{w} {c}" for w, c in zip(who, has)) + ".")
    asked = r.randrange(3)
    return Item(" ".join(told) + f" Which ball has {who[asked]} in the end?", steps, has[asked])


def brackets(r: random.Random) -> Item:
    stack: list[str] = []
    told: list[str] = []
    while len(told) < 9:
        if stack and (r.random() < 0.4 or len(stack) == 4):
            told.append(BRACKETS[stack.pop()])
        else:
            stack.append(r.choice("([{<"))
            told.append(stack[-1])
        if len(told) >= 4 and len(stack) > 1 and r.random() < 0.25:
            break
    while not stack:
        stack.append(r.choice("([{<"))
        told.append(stack[-1])
    return Item("Which marks are left open : " + " ".join(told) + " ?", ["Open " + " ".join(stack) + " ."], " ".join(BRACKETS[s] for s in reversed(stack)))


def sorting(r: random.Random) -> Item:
    words = r.sample(FRUITS + OTHERS + COLOURS + ["table", "school", "boxes", "jars"], r.randint(3, 5))
    by_place = sorted(words)
    return Item("Sort the words : " + " ".join(words), [f"First {by_place[0]}."] + [f"Then {w}." for w in by_place[1:]], " ".join(by_place))


def navigation(r: random.Random) -> Item:
    at, told, steps = 0, [], []
    n = r.randint(2, 4)
    home = r.random() < 0.5
    for i in range(n):
        if at and home and i == n - 1:
            move = -at
        else:
            move = r.randint(1, 9) if not at or r.random() < 0.4 else -r.randint(1, at)
        told.append(f"{abs(move)} steps {'forward' if move > 0 else 'back'}.")
        steps.append(f"{at} {'+' if move > 0 else '-'} {abs(move)} = {at + move}.")
        at += move
    return Item("Take " + " Take ".join(told) + " Are you at the start?", steps, "no" if at else "yes")


def counting(r: random.Random) -> Item:
    things = r.sample(FRUITS, r.randint(1, 3)) + r.sample(OTHERS, r.randint(1, 2))
    r.shuffle(things)
    amounts = [r.randint(1, 9) for _ in things]
    told = [f"{a} {t}" for a, t in zip(amounts, things)]
    steps, total = [], 0
    for a, t in zip(amounts, things):
        if t in FRUITS:
            steps.append(f"{total} + {a} = {total + a} {t}.")
            total += a
        else:
            steps.append(f"No {t}.")
    start = r.choice([f"{r.choice(NAMES)} owns", "There are", f"{r.choice(NAMES)} counts"])
    return Item(f"{start} " + " and ".join(told) + r.choice([" on the table. Count the fruits.", ". What is the number of fruits?"]), steps, str(total))


def dates(r: random.Random) -> Item:
    m = r.randrange(12)
    month, days = MONTHS[m]
    day, later = r.randint(1, days), r.randint(2, 12)
    steps = [f"{day} + {later} = {day + later}."]
    if day + later <= days:
        return Item(f"It is {month} {day}. Which day is it {later} days later?", steps + [f"{month} has {days} days."], f"{month} {day + later}")
    after = MONTHS[(m + 1) % 12][0]
    steps += [f"{month} has {days} days.", f"{day + later} - {days} = {day + later - days}."]
    return Item(f"It is {month} {day}. Which day is it {later} days later?", steps, f"{after} {day + later - days}")


def arithmetic(r: random.Random) -> Item:
    value = r.randint(2, 20)
    text, steps = str(value), []
    for i in range(r.randint(1, 2)):
        sign = r.choice("+-*/")
        if sign == "/":
            divisors = [d for d in range(2, 6) if value % d == 0]
            b = r.choice(divisors) if divisors else 1
        else:
            b = r.randint(2, 5) if sign == "*" else r.randint(2, 12)
        after = {"+": value + b, "-": value - b, "*": value * b, "/": value // b}[sign]
        if not 0 < after <= 99 or b == 1:
            sign, b, after = ("-", 1, value - 1) if value > 50 else ("+", 1, value + 1)
        steps.append(f"{value} {sign} {b} = {after}.")
        text = f"( {text} )" if i else text
        text += f" {sign} {b}"
        value = after
    return Item(f"What is {text} ?", steps, str(value))


KINDS: dict[str, Callable[[random.Random], Item]] = {
    f.__name__: f for f in (boolean, tracking, brackets, sorting, navigation, counting, dates, arithmetic)}


def questions(kind: str, n: dict[str, int], seed: int) -> dict[str, list[Item]]:
    """n[part] different items for each part; a twentieth of all questions is for development, another for the test. Fewer where a kind has not so many."""
    r = random.Random(f"{kind} {seed}")
    out: dict[str, list[Item]] = {part: [] for part in n}
    seen: set[str] = set()
    for _ in range(40 * sum(n.values())):
        if all(len(out[part]) == n[part] for part in n):
            break
        item = KINDS[kind](r)
        part = {0: "dev", 1: "test"}.get(zlib.crc32(item.question.encode()) % 20, "train")
        if item.question not in seen and len(out[part]) < n[part]:
            seen.add(item.question)
            out[part].append(item)
    if not all(out.values()):
        raise SystemExit(f"tasks.py: no question of the kind {kind} fell to one of the parts: ask for more of them")
    return out


def reply(ident: str, item: Item) -> dict:
    """The solution as a certain teacher would say it."""
    text = "\n".join(item.rationale + [f"The answer is {item.answer}"])
    tokens = re.findall(r"\n| ?\w+| ?[^\w\s]", text)
    assert "".join(tokens) == text
    at = len(f"Question: {item.question}\nLet's think step by step\n")
    offsets = []
    for token in tokens:
        offsets.append(at)
        at += len(token)
    logprobs = {"tokens": tokens, "token_logprobs": [0.0] * len(tokens), "top_logprobs": [{t: 0.0} for t in tokens], "text_offset": offsets}
    return {"id": ident, "object": "text_completion", "model": "certain-teacher", "question": item.question,
            "choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": "stop"}]}


def line(ident: str, item: Item) -> dict:
    return {"id": ident, "task": ident.split("-")[0], "question": item.question, "answer": item.answer, "rationale": "\n".join(item.rationale)}


def words_of(texts: Iterable[str]) -> Iterator[str]:
    """What stands between blanks, but for numbers; each once."""
    seen: set[str] = set()
    for text in texts:
        for word in text.split():
            if word not in seen and not re.search(r"\d", word):
                seen.add(word)
                yield word


def write_lines(path: Path, rows: Iterable[dict | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, separators=(",", ":"))) + "\n")
    part.replace(path)


def write(out: Path, train: int, dev: int, test: int, seed: int, demos: int = 200) -> None:
    made = {kind: questions(kind, {"train": train, "dev": dev, "test": test}, seed) for kind in KINDS}
    rows = [(f"{kind}-{i:05d}", item) for kind in KINDS for i, item in enumerate(made[kind]["train"])]
    random.Random(seed).shuffle(rows)
    write_lines(out / "train.jsonl", (line(*row) for row in rows))
    write_lines(out / "replies.jsonl", (reply(*row) for row in rows))
    for kind in KINDS:
        write_lines(out / "demos" / f"{kind}.jsonl", (line(f"{kind}-{i:05d}", item) for i, item in enumerate(made[kind]["train"][:demos])))
        for part in ("dev", "test"):
            write_lines(out / part / f"{kind}.jsonl", ({"id": f"{part}-{kind}-{i:04d}", "input": item.question, "target": item.answer}
                                                       for i, item in enumerate(made[kind][part])))
    everything = [item for kind in KINDS for part in made[kind].values() for item in part]
    write_lines(out / "words.txt", words_of(t for item in everything for t in (item.question, item.answer, *item.rationale)))


def main() -> None:
    p = argparse.ArgumentParser(description="Makes generic tasks for sh examples/paper.sh.")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--train", type=int, default=2000, help="training questions of each kind")
    p.add_argument("--dev", type=int, default=30, help="development questions of each kind")
    p.add_argument("--test", type=int, default=50, help="test questions of each kind")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    write(a.out, a.train, a.dev, a.test, a.seed)


if __name__ == "__main__":
    main()
