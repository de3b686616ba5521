#!/usr/bin/env python3
"""Writes tests/fixtures/teacher/<dialect>/: response bodies in the shapes of four kinds of server, and expected.jsonl with what each must give.

    python3 tests/tools/make_teacher_fixtures.py tests/fixtures/teacher

Bodies follow the servers' own sources: openai-python (types/), vLLM (entrypoints/openai), llama.cpp (tools/server). What is expected is written by
hand beside each body: texts, tokens (a string, or {"hex"} where it is no UTF-8), log-probabilities (null: none that may be used), alternatives.
A body as bytes stands for one that is no JSON.
"""
import json
import sys
from pathlib import Path

LOWEST = -3.4028234663852886e38  # minus infinity in single precision, as llama.cpp sends it
cases = []


def hexed(t):
    if isinstance(t, bytes):
        try:
            return t.decode()
        except UnicodeDecodeError:
            return {"hex": t.hex()}
    return t


def want(text, tokens=(), logprobs=(), tops=None, finish="stop"):
    tops = [[] for _ in tokens] if tops is None else tops
    return {"text": hexed(text), "tokens": [hexed(t) for t in tokens], "logprobs": list(logprobs),
            "top": [[[hexed(t), x] for t, x in row] for row in tops], "finish": finish}


def case(dialect, name, body, *replies, status=200, code="RSD_OK", error=None, prompt=0, tops=True, retry=None):
    """prompt: code points of the prompt; tops: alternatives are needed; retry: whether the answer is worth another request."""
    cases.append((dialect, name, body, {"status": status, "code": code, "error": error, "prompt_points": prompt, "need_tops": tops,
                                        "retry": retry, "replies": list(replies)}))


# ---- legacy completions -------------------------------------------------------------------------------------------------------------


def legacy(tokens, own, tops=None, offsets=None, **more):
    return {"tokens": tokens, "token_logprobs": own, "top_logprobs": tops, "text_offset": offsets, **more}


def completion(*choices, usage=(7, 3), **more):
    full = [{"text": "", "index": i, "logprobs": None, "finish_reason": "stop", **c} for i, c in enumerate(choices)]
    return {"id": "cmpl-8xK", "object": "text_completion", "created": 1700000000, "model": "davinci-002", "choices": full,
            "usage": usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}, **more}


C = "completions"
case(C, "plain", completion({"text": " 4.\n", "logprobs": legacy([" 4", ".", "\n"], [-0.125, -0.5, -2], [{" 4": -0.125, " 5": -3}, {".": -0.5, " ": -1}, {".": -0.25, "\n": -2}], [40, 42, 43])}),
     want(" 4.\n", [" 4", ".", "\n"], [-0.125, -0.5, -2], [[(" 4", -0.125), (" 5", -3)], [(".", -0.5), (" ", -1)], [(".", -0.25), ("\n", -2)]]), prompt=40)
case(C, "sampled-token-outside-the-top-is-entry-k-plus-1", completion({"text": "x", "logprobs": legacy(["x"], [-9.5], [{"a": -0.5, "b": -1.5, "c": -2.5, "d": -3.5, "e": -4.5, "x": -9.5}], [3])}),
     want("x", ["x"], [-9.5], [[("a", -0.5), ("b", -1.5), ("c", -2.5), ("d", -3.5), ("e", -4.5), ("x", -9.5)]]), prompt=3)
case(C, "half-characters-as-bytes", completion({"text": "“a", "logprobs": legacy(["bytes:\\xe2\\x80", "bytes:\\x9c", "a"], [-1, -0.25, -0.5], [{"bytes:\\xe2\\x80": -1, "\"": -2}, {"bytes:\\x9c": -0.25, "bytes:\\x9d": -1.75}, {"a": -0.5}], [9, 9, 10])}),
     want("“a", [b"\xe2\x80", b"\x9c", "a"], [-1, -0.25, -0.5], [[(b"\xe2\x80", -1), ('"', -2)], [(b"\x9c", -0.25), (b"\x9d", -1.75)], [("a", -0.5)]]), prompt=9)
case(C, "character-cut-by-the-limit", completion({"text": "a�", "finish_reason": "length", "logprobs": legacy(["a", "bytes:\\xe2\\x80"], [-1, -2], [{"a": -1}, {"bytes:\\xe2\\x80": -2}], [4, 5])}),
     want(b"a\xe2\x80", ["a", b"\xe2\x80"], [-1, -2], [[("a", -1)], [(b"\xe2\x80", -2)]], "length"), prompt=4)
case(C, "last-prompt-token-repeated", completion({"text": " 4", "logprobs": legacy([":", " 4"], [-0.5, -0.25], [{":": -0.5}, {" 4": -0.25}], [8, 9])}),
     want(" 4", [" 4"], [-0.25], [[(" 4", -0.25)]]), prompt=9)
case(C, "first-entry-null", completion({"text": "ab", "logprobs": legacy(["a", "b"], [None, -1], [None, {"b": -1}], [0, 1])}),
     want("ab", ["a", "b"], [None, -1], [[], [("b", -1)]]))
case(C, "end-mark-listed", completion({"text": "b", "logprobs": legacy(["b", "<|endoftext|>"], [-1, -0.01], [{"b": -1}, {"<|endoftext|>": -0.01}], [5, 6])}),
     want("b", ["b"], [-1], [[("b", -1)]]), prompt=5)
case(C, "two-choices-one-usage", completion({"text": "a", "logprobs": legacy(["a"], [-1], [{"a": -1}], [1])}, {"text": "b", "logprobs": legacy(["b"], [-2], [{"b": -2}], [1])}),
     want("a", ["a"], [-1], [[("a", -1)]]), want("b", ["b"], [-2], [[("b", -2)]]), prompt=1)
case(C, "choices-out-of-order", completion({"text": "second", "index": 1, "logprobs": legacy(["second"], [-1], [{"second": -1}], None)}, {"text": "first", "index": 0, "logprobs": legacy(["first"], [-1], [{"first": -1}], None)}),
     want("second", ["second"], [-1], [[("second", -1)]]), want("first", ["first"], [-1], [[("first", -1)]]))
case(C, "logprobs-null", completion({"text": "a"}), want("a"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(C, "alternatives-null", completion({"text": "a", "logprobs": legacy(["a"], [-1], None, [0])}), want("a", ["a"], [-1]), code="RSD_ENOLOGPROBS", error="of its own tokens only")
case(C, "alternatives-null-and-not-needed", completion({"text": "a", "logprobs": legacy(["a"], [-1], None, [0])}), want("a", ["a"], [-1]), tops=False)
case(C, "empty-completion", completion({"text": "", "logprobs": legacy([], [], [], [])}), want(""))
case(C, "no-usage", completion({"text": "a", "logprobs": legacy(["a"], [-1], [{"a": -1}], [0])}, usage=None), want("a", ["a"], [-1], [[("a", -1)]]))
case(C, "content-filter", completion({"text": "", "finish_reason": "content_filter"}), want("", finish="content_filter"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(C, "a-literal-bytes-prefix", completion({"text": "bytes: 7", "logprobs": legacy(["bytes", ": 7"], [-1, -1], [{"bytes": -1}, {": 7": -1}], [0, 5])}),
     want("bytes: 7", ["bytes", ": 7"], [-1, -1], [[("bytes", -1)], [(": 7", -1)]]))
case(C, "a-positive-logprob", completion({"text": "a", "logprobs": legacy(["a"], [0.5], [{"a": 0.5}], [0])}), code="RSD_EFORMAT", error="token 0: a log-probability is at most 0")
case(C, "tokens-that-do-not-join", completion({"text": "ab", "logprobs": legacy(["a", "c"], [-1, -1], [{"a": -1}, {"c": -1}], [0, 1])}), code="RSD_EFORMAT", error="they part at byte 1")
case(C, "quota", {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}, status=429, retry=False)
case(C, "rate-limit", {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}, status=429, retry=True)
case(C, "chat-model-at-completions", {"error": {"message": "This is a chat model and not supported in the v1/completions endpoint.", "type": "invalid_request_error", "param": "model", "code": None}}, status=404, retry=False)

# ---- chat ---------------------------------------------------------------------------------------------------------------------------


def item(token, logprob, tops=(), raw=..., **more):
    raw = list(token.encode()) if raw is ... else raw if raw is None else list(raw)
    return {"token": token, "logprob": logprob, "bytes": raw, "top_logprobs": [{k: v for k, v in item(*t).items() if k != "top_logprobs"} for t in tops], **more}


def chat(*choices, model="gpt-4o-mini-2024-07-18", **more):
    full = []
    for i, (content, items, *rest) in enumerate(choices):
        c = {"index": i, "message": {"role": "assistant", "content": content, "refusal": None}, "finish_reason": "stop",
             "logprobs": None if items is None else {"content": items, "refusal": None}}
        c.update(rest[0] if rest else {})
        full.append(c)
    return {"id": "chatcmpl-B9M", "object": "chat.completion", "created": 1741570283, "model": model, "choices": full,
            "usage": {"prompt_tokens": 19, "completion_tokens": 4, "total_tokens": 23, "completion_tokens_details": {"reasoning_tokens": 0}},
            "service_tier": "default", "system_fingerprint": "fp_44709d6fcb", **more}


T = "chat"
case(T, "plain", chat(("It is 4", [item("It", -0.5, [("It", -0.5), ("The", -1)]), item(" is", -0.25, [(" is", -0.25)]), item(" 4", -1, [(" 5", -0.5), (" 4", -1)])])),
     want("It is 4", ["It", " is", " 4"], [-0.5, -0.25, -1], [[("It", -0.5), ("The", -1)], [(" is", -0.25)], [(" 5", -0.5), (" 4", -1)]]))
case(T, "half-characters-in-bytes", chat(("🎉", [item("\\xf0\\x9f", -1, [("\\xf0\\x9f", -1, (), b"\xf0\x9f"), ("!", -2)], b"\xf0\x9f"), item("\\x8e\\x89", -0.25, [("\\x8e\\x89", -0.25, (), b"\x8e\x89")], b"\x8e\x89")])),
     want("🎉", [b"\xf0\x9f", b"\x8e\x89"], [-1, -0.25], [[(b"\xf0\x9f", -1), ("!", -2)], [(b"\x8e\x89", -0.25)]]))
case(T, "bytes-null", chat(("a b", [item("a", -1, [("a", -1, (), None)], None), item(" b", -2, [(" b", -2, (), None)], None)])),
     want("a b", ["a", " b"], [-1, -2], [[("a", -1)], [(" b", -2)]]))
case(T, "bytes-null-and-escapes", chat(("é", [item("\\xc3", -1, [("\\xc3", -1, (), None)], None), item("\\xa9", -2, [("\\xa9", -2, (), None)], None)])),
     want("é", [b"\xc3", b"\xa9"], [-1, -2], [[(b"\xc3", -1)], [(b"\xa9", -2)]]))
case(T, "escapes-that-are-the-text", chat(("b'\\xc3'", [item("b'", -1, [("b'", -1)], None), item("\\xc3", -2, [("\\xc3", -2, (), None)], None), item("'", -1, [("'", -1)], None)])),
     want("b'\\xc3'", ["b'", "\\xc3", "'"], [-1, -2, -1], [[("b'", -1)], [("\\xc3", -2)], [("'", -1)]]))
case(T, "sampled-token-outside-the-top-20", chat(("z", [item("z", -9999.0, [("a", -0.5), ("b", -1)])])),
     want("z", ["z"], [None], [[("a", -0.5), ("b", -1)]]))
case(T, "equal-tokens-stay-apart", chat(("a", [item("a", -1, [("a", -1), ("a", -2)])])), want("a", ["a"], [-1], [[("a", -1), ("a", -2)]]))
case(T, "fewer-alternatives-than-asked", chat(("ab", [item("a", -1, [("a", -1), ("x", -2)]), item("b", -1, [])])), want("ab", ["a", "b"], [-1, -1], [[("a", -1), ("x", -2)], []]))
case(T, "logprobs-null", chat(("a", None)), want("a"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(T, "content-list-null", chat(("a", None, {"logprobs": {"content": None, "refusal": None}})), want("a"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(T, "refusal", chat((None, None, {"message": {"role": "assistant", "content": None, "refusal": "No."}, "logprobs": {"content": None, "refusal": [item("No", -0.5, [("No", -0.5)]), item(".", -0.25, [(".", -0.25)])]}})),
     want("No.", ["No", "."], [-0.5, -0.25], [[("No", -0.5)], [(".", -0.25)]]))
case(T, "tool-calls", chat((None, None, {"finish_reason": "tool_calls", "message": {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}})),
     want("", finish="tool_calls"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(T, "end-mark-listed", chat(("b", [item("b", -1, [("b", -1)]), item("<|im_end|>", -0.5, [("<|im_end|>", -0.5)])])), want("b", ["b"], [-1], [[("b", -1)]]))
case(T, "empty-content-empty-list", chat(("", [])), want(""))
case(T, "u-0000-in-a-token", chat(("a\0b", [item("a", -1, [("a", -1)]), item("\0b", -2, [("\0b", -2)])])), want("a\0b", ["a", "\0b"], [-1, -2], [[("a", -1)], [("\0b", -2)]]))
case(T, "rounded-up-to-above-0", chat(("a", [item("a", 1.1920929e-07, [("a", 1.1920929e-07), ("b", -16)])])), want("a", ["a"], [0], [[("a", 0), ("b", -16)]]))
case(T, "finish-reason-null", chat(("a", [item("a", -1, [("a", -1)])], {"finish_reason": None})), want("a", ["a"], [-1], [[("a", -1)]], None))
case(T, "bytes-beyond-255", chat(("a", [item("a", -1, [], [256])])), code="RSD_EFORMAT", error="whole numbers from 0 to 255")
case(T, "an-alternative-without-token", chat(("a", [{"token": "a", "logprob": -1, "bytes": None, "top_logprobs": [{"logprob": -1}]}])), code="RSD_EFORMAT", error="top_logprobs[0]")
case(T, "content-of-parts", chat(([{"type": "text", "text": "a"}], None)), code="RSD_EFORMAT", error="content")
case(T, "wrong-key", {"error": {"message": "Incorrect API key provided: sk-…", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}}, status=401, retry=False)

# ---- vLLM ---------------------------------------------------------------------------------------------------------------------------


def vllm(*choices, **more):
    full = [{"index": i, "text": "", "logprobs": None, "finish_reason": "stop", "stop_reason": None, "token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None, **c} for i, c in enumerate(choices)]
    return {"id": "cmpl-0b2f", "object": "text_completion", "created": 1760000000, "model": "Qwen/Qwen2.5-7B", "choices": full, "service_tier": None, "system_fingerprint": None,
            "usage": {"prompt_tokens": 12, "total_tokens": 15, "completion_tokens": 3, "prompt_tokens_details": None}, "kv_transfer_params": None, **more}


def vllm_chat(*choices, **more):
    body = chat(*choices, model="Qwen/Qwen2.5-7B-Instruct", **more)
    for c in body["choices"]:
        c["message"] = {"role": "assistant", "reasoning_content": None, "tool_calls": [], **{k: v for k, v in c["message"].items() if k != "refusal"}}
        c["stop_reason"] = None
        if c["logprobs"]:
            c["logprobs"].pop("refusal", None)
    return body


V = "vllm"
case(V, "plain", vllm({"text": " 4.", "stop_reason": "\n", "logprobs": legacy([" 4", "."], [-0.125, -0.5], [{" 4": -0.125, " 5": -3}, {".": -0.5, ",": -1}], [0, 2])}),
     want(" 4.", [" 4", "."], [-0.125, -0.5], [[(" 4", -0.125), (" 5", -3)], [(".", -0.5), (",", -1)]]), prompt=40)
case(V, "sampled-token-first-then-the-others", vllm({"text": "x", "logprobs": legacy(["x"], [-7], [{"x": -7, "a": -0.5, "b": -1.5}], [0])}), want("x", ["x"], [-7], [[("x", -7), ("a", -0.5), ("b", -1.5)]]), prompt=9)
case(V, "clamped-at-9999", vllm({"text": "x", "logprobs": legacy(["x"], [-0.5], [{"x": -0.5, "y": -9999.0}], [0])}), want("x", ["x"], [-0.5], [[("x", -0.5), ("y", None)]]))
case(V, "everything-9999", vllm({"text": "x", "logprobs": legacy(["x"], [-9999.0], [{"x": -9999.0}], [0])}), want("x", ["x"], [None], [[("x", None)]]), code="RSD_ENOLOGPROBS", error="is null or a stand-in")
case(V, "null-among-the-numbers", vllm({"text": "ab", "logprobs": legacy(["a", "b"], [-1, None], [{"a": -1}, None], [0, 1])}), want("ab", ["a", "b"], [-1, None], [[("a", -1)], []]))
case(V, "equal-strings-collapsed", vllm({"text": "ab", "logprobs": legacy(["a", "b"], [-1, -2], [{"a": -4}, {"b": -2, "�": -3}], [0, 1])}), want("ab", ["a", "b"], [-1, -2], [[("a", -4)], [("b", -2), ("�", -3)]]))
case(V, "half-characters-lost-in-strings", vllm({"text": "é.", "logprobs": legacy(["�", "�", "."], [-1, -0.25, -0.5], [{"�": -1}, {"�": -0.25}, {".": -0.5}], [0, 0, 1])}),
     want("é.", ["é", "."], [-1.25, -0.5], [[], [(".", -0.5)]]))
case(V, "half-characters-told-late", vllm_chat(("x🎉y", [item("x", -1, [("x", -1)]), item("", -0.5, [("", -0.5)]), item("�", -0.25, [("�", -0.25)]), item("�", -0.25, [("�", -0.25)]), item("y", -2, [("y", -2)])])),
     want("x🎉y", ["x", "", "🎉", "y"], [-1, -0.5, -0.5, -2], [[("x", -1)], [("", -0.5)], [], [("y", -2)]]))
case(V, "character-cut-by-the-limit", vllm({"text": "a�", "finish_reason": "length", "logprobs": legacy(["a", "�"], [-1, -2], [{"a": -1}, {"�": -2}], [0, 1])}), want("a�", ["a", "�"], [-1, -2], [[("a", -1)], [("�", -2)]], "length"))
case(V, "chat-plain", vllm_chat(("4.", [item("4", -0.125, [("4", -0.125), ("5", -3)]), item(".", -0.5, [(".", -0.5)])])), want("4.", ["4", "."], [-0.125, -0.5], [[("4", -0.125), ("5", -3)], [(".", -0.5)]]))
case(V, "chat-list-unsorted-and-cut", vllm_chat(("z", [item("z", -5, [("z", -5), ("a", -0.5)])])), want("z", ["z"], [-5], [[("z", -5), ("a", -0.5)]]))
case(V, "chat-missing-logprob-of-one-token", vllm_chat(("ab", [item("a", -9999.0, []), item("b", -1, [("b", -1)])])), want("ab", ["a", "b"], [None, -1], [[], [("b", -1)]]))
case(V, "chat-bytes-of-the-replacement-character", vllm_chat(("né", [item("n", -1, [("n", -1)]), item("�", -0.5, [("�", -0.5)], b"\xef\xbf\xbd"), item("�", -0.5, [("�", -0.5)], b"\xef\xbf\xbd")])),
     want("né", ["n", "é"], [-1, -1], [[("n", -1)], []]))
case(V, "chat-end-token-is-empty", vllm_chat(("a", [item("a", -1, [("a", -1)]), item("", -0.5, [("", -0.5)])])), want("a", ["a", ""], [-1, -0.5], [[("a", -1)], [("", -0.5)]]))
case(V, "token-ids-instead-of-strings", vllm({"text": "ab", "logprobs": legacy(["token_id:64", "token_id:65"], [-1, -2], [{"token_id:64": -1}, {"token_id:65": -2}], [0, 11])}), code="RSD_EFORMAT", error="return_tokens_as_token_ids")
case(V, "finish-null-and-stop-reason-a-number", vllm({"text": "a", "finish_reason": None, "stop_reason": 151645, "logprobs": legacy(["a"], [-1], [{"a": -1}], [0])}), want("a", ["a"], [-1], [[("a", -1)]], None))
case(V, "completion-tokens-null", vllm({"text": "a", "logprobs": legacy(["a"], [-1], [{"a": -1}], [0])}, usage={"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": None}), want("a", ["a"], [-1], [[("a", -1)]]))
case(V, "flattened-choices", vllm({"text": "a", "logprobs": legacy(["a"], [-1], [{"a": -1}], [0])}, {"text": "b", "logprobs": legacy(["b"], [-1], [{"b": -1}], [0])}, {"text": "c", "logprobs": legacy(["c"], [-1], [{"c": -1}], [0])}),
     want("a", ["a"], [-1], [[("a", -1)]]), want("b", ["b"], [-1], [[("b", -1)]]), want("c", ["c"], [-1], [[("c", -1)]]))
case(V, "error-with-a-numeric-code", {"object": "error", "message": "outer", "error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404}}, status=404, retry=False)

# ---- llama.cpp ----------------------------------------------------------------------------------------------------------------------


def llama_items(items):
    for i, it in enumerate(items):
        it["id"] = 1000 + i
        for j, t in enumerate(it.get("top_logprobs", [])):
            t["id"] = 2000 + j
    return items


def llama(*choices, **more):
    full = []
    for i, (text, items, *rest) in enumerate(choices):
        full.append({"text": text, "index": i, "logprobs": None if items is None else {"content": llama_items(items)}, "finish_reason": "stop", **(rest[0] if rest else {})})
    return {"choices": full, "created": 1760000000, "model": "gpt-3.5-turbo", "system_fingerprint": "b6000-1d72c84", "object": "text_completion",
            "usage": {"completion_tokens": 3, "prompt_tokens": 11, "total_tokens": 14}, "id": "chatcmpl-QkF",
            "timings": {"cache_n": 0, "prompt_n": 11, "prompt_ms": 100.5, "predicted_n": 3, "predicted_ms": 30.25}, **more}


def llama_chat(*choices, off=False):
    body = llama()
    body["object"] = "chat.completion"
    for i, (text, items, *rest) in enumerate(choices):
        c = {"finish_reason": "stop", "index": i, "message": {"role": "assistant", "content": text}, **(rest[0] if rest else {})}
        if not off:
            c["logprobs"] = {"content": llama_items(items)}
        body["choices"].append(c)
    return body


def prob(token, p, tops=(), raw=...):
    it = item(token, 0, (), raw)
    del it["logprob"], it["top_logprobs"]
    return {**it, "prob": p, "top_probs": [{"id": 1, "token": t, "bytes": list(t.encode()), "prob": q} for t, q in tops]}


L = "llamacpp"
case(L, "plain", llama((" 4.", [item(" 4", -0.125, [(" 4", -0.125), (" 5", -3)]), item(".", -0.5, [(".", -0.5)])])), want(" 4.", [" 4", "."], [-0.125, -0.5], [[(" 4", -0.125), (" 5", -3)], [(".", -0.5)]]), prompt=30)
case(L, "zero-is-the-lowest-float", llama(("a", [item("a", -0.5, [("a", -0.5), ("b", LOWEST)])])), want("a", ["a"], [-0.5], [[("a", -0.5), ("b", None)]]))
case(L, "own-probability-zero", llama(("ab", [item("a", LOWEST, [("x", 0)]), item("b", -1, [("b", -1)])])), want("ab", ["a", "b"], [None, -1], [[("x", 0)], [("b", -1)]]))
case(L, "half-characters-in-bytes", llama(("é", [item("", -1, [("", -1, (), b"\xc3")], b"\xc3"), item("", -0.5, [("", -0.5, (), b"\xa9")], b"\xa9")])), want("é", [b"\xc3", b"\xa9"], [-1, -0.5], [[(b"\xc3", -1)], [(b"\xa9", -0.5)]]))
case(L, "token-cut-to-valid-utf-8", llama(("a\u201cb", [item("a", -1, [("a", -1, (), b"a\xe2")], b"a\xe2"), item("", -0.5, [("b", -0.5)], b"\x80\x9cb")])), want("a“b", [b"a\xe2", b"\x80\x9cb"], [-1, -0.5], [[(b"a\xe2", -1)], [("b", -0.5)]]))
case(L, "logprobs-key-null", llama(("a", None)), want("a"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(L, "chat-key-absent-when-off", llama_chat(("a", None), off=True), want("a"), code="RSD_ENOLOGPROBS", error="no token log-probabilities")
case(L, "chat-plain", llama_chat(("4", [item("4", -0.25, [("4", -0.25), ("5", -2)])])), want("4", ["4"], [-0.25], [[("4", -0.25), ("5", -2)]]))
case(L, "chat-twenty-alternatives", llama_chat(("a", [item("a", -1, [(chr(97 + i), -1 - i) for i in range(20)])])), want("a", ["a"], [-1], [[(chr(97 + i), -1 - i) for i in range(20)]]))
case(L, "chat-end-token-is-empty", llama_chat(("a", [item("a", -1, [("a", -1)]), item("", -0.5, [("", -0.5)], b"")])), want("a", ["a", ""], [-1, -0.5], [[("a", -1)], [("", -0.5)]]))
case(L, "post-sampling", llama(("ab", [prob("a", 0.75, [("a", 0.75), ("b", 0.25)]), prob("b", 1.0, [("b", 1.0)])])), want("ab", ["a", "b"], [None, None]), code="RSD_ENOLOGPROBS", error="post_sampling_probs")
case(L, "chat-post-sampling", llama_chat(("a", [prob("a", 1, [("a", 1)])])), want("a", ["a"], [None]), code="RSD_ENOLOGPROBS", error="post_sampling_probs")
case(L, "post-sampling-above-1", llama(("a", [prob("a", 1.5)])), code="RSD_EFORMAT", error="prob")
case(L, "cut-by-the-limit", llama(("ab", [item("a", -1, [("a", -1)]), item("b", -1, [("b", -1)])], {"finish_reason": "length"})), want("ab", ["a", "b"], [-1, -1], [[("a", -1)], [("b", -1)]], "length"))
case(L, "echo-is-ignored", llama(("b", [item("b", -1, [("b", -1)])])), want("b", ["b"], [-1], [[("b", -1)]]), prompt=1)
case(L, "content-of-another-type", llama(("a", None, {"logprobs": {"content": {"a": 1}}})), code="RSD_EFORMAT", error="content")
case(L, "an-item-that-is-a-string", llama(("a", None, {"logprobs": {"content": ["a"]}})), code="RSD_EFORMAT", error="token 0")
case(L, "loading", {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, status=503, error="Loading model", retry=True)
case(L, "busy-slots-as-text", b"no slot available\n", status=503, retry=True)
case(L, "prompt-too-long", {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}, status=400, retry=False)
# Stopped by "\n\nQ", two tokens by themselves; the model wrote ".\n\n" and "Q", and the server leaves out both.
case(L, "stop-string-took-a-token-more", llama((" 4.", [item(" 4", -0.125, [(" 4", -0.125), (" 5", -3)])])), code="RSD_EFORMAT", error="they end 1 bytes before", prompt=30)


def main():
    out = Path(sys.argv[1])
    for dialect in dict.fromkeys(c[0] for c in cases):
        folder = out / dialect
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number, (_, name, body, expected) in enumerate((c for c in cases if c[0] == dialect), 1):
            file = f"{number:02d}-{name}.json"
            raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            (folder / file).write_bytes(raw)
            lines.append(json.dumps({"file": file, **expected}, ensure_ascii=False))
        (folder / "expected.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{dialect}: {len(lines)}")


main()
