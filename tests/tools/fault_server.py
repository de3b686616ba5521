#!/usr/bin/env python3
"""An OpenAI-compatible endpoint on loopback that misbehaves by script (standard library only).

    fault_server.py LOG ACTION...

prints its port as the first line and serves POST /v1/completions and /v1/chat/completions until its standard input ends. The i-th
request is treated as the i-th ACTION says, all later ones as "ok". Every request is one JSON line in LOG: {"path", "action", "key",
"headers", "body"}.

    ok              a good reply with n choices              one             one choice only, whatever n is
    nologprobs      choices without logprobs                 cut             JSON that ends in the middle
    utf8            a body that is not UTF-8                 empty           "choices": []
    error           status 200 with an error object          type            a good reply called text/html
    429:V           Retry-After: V                           429ms:V         retry-after-ms: V
    429date:T       Retry-After: a date T seconds behind the server's own, which is years ago
    500 503 ...     the status with an error object          quota           429 with the code insufficient_quota
    html, html:S    502, or S, with a page of HTML           echo:S          status S (401) whose message repeats the key
    once:S          status S with x-should-retry: false      please:S        status S with x-should-retry: true
    reset           reset instead of an answer               half            reset within the body
    slow:T          a good reply after T seconds             drip:T          a body that takes T seconds
    loading         503, as llama.cpp's server answers while it loads its model
    alone:1         500, as llama.cpp's server, if more than one choice is asked for
    few:N           400 if more than N choices are asked for
    limit:T         a good reply that says: no more requests for T seconds      limit-tokens:T  the same of tokens
    leak            a good reply whose text is the key       leak:escaped    the same, "/" and "=" as JSON escapes
    given:WHAT      the same with all the headers that the request had; an error if WHAT is 400
    usage:P:C       a good reply that says it took so much   nousage         a good reply that says nothing of that
    nousage:text    the same without logprobs
    gzip            a good reply, compressed                 bomb:N          the same with N blanks behind it
    redirect        307 to a second port                     large           a body without end
"""
import gzip
import json
import socket
import struct
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
log = open(sys.argv[1], "w", encoding="utf-8")
script = iter(sys.argv[2:])
served = 0


def choice(index, number, logprobs, chat, text=None):
    tokens = ["The", " answer", " is", f" {number}", "\n"] if text is None else [text]
    if chat:
        item = lambda t, x: {"token": t, "logprob": x, "bytes": list(t.encode())}
        return {
            "index": index,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "".join(tokens)},
            "logprobs": {"content": [{**item(t, -0.5), "top_logprobs": [item(t, -0.5), item("x", -1.5)]} for t in tokens]}
            if logprobs
            else None,
        }
    return {
        "text": "".join(tokens),
        "index": index,
        "finish_reason": "stop",
        "logprobs": {
            "tokens": tokens,
            "token_logprobs": [-0.5] * len(tokens),
            "top_logprobs": [{t: -0.5, "x": -1.5} for t in tokens],
            "text_offset": list(range(len(tokens))),
        }
        if logprobs
        else None,
    }


def good(n, logprobs=True, chat=False, text=None):
    global served
    with lock:
        first, served = served, served + n
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": "fault",
        "choices": [choice(i, first + i, logprobs, chat, text) for i in range(n)],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5 * n},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, headers=(), content_type="application/json", date=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Date", date or formatdate(usegmt=True))
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, code=None, message="as the script says", headers=()):
        self.answer(status, {"error": {"message": message, "type": "test", "code": code}}, headers)

    def reset(self):
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        elsewhere = self.server is not first_server
        with lock:
            action = "elsewhere" if elsewhere else next(script, "ok")
            key = self.headers.get("Authorization", "")
            log.write(json.dumps({"path": self.path, "action": action, "key": key, "headers": dict(self.headers.items()),
                                  "body": body.decode()}) + "\n")
            log.flush()
        n = json.loads(body).get("n", 1) if body else 1
        chat = self.path.endswith("/chat/completions")
        name, _, value = action.partition(":")
        if name in ("ok", "elsewhere"):
            self.answer(200, good(n, chat=chat))
        elif name == "one":
            self.answer(200, good(1, chat=chat))
        elif name == "nologprobs":
            self.answer(200, good(n, False, chat))
        elif name == "cut":
            self.answer(200, json.dumps(good(n)).encode()[:-40])
        elif name == "utf8":
            self.answer(200, json.dumps(good(n)).encode().replace(b"answer", b"ans\xffer"))
        elif name == "empty":
            self.answer(200, {"choices": []})
        elif name == "error":
            self.error(200, "upstream_failed")
        elif name == "type":
            self.answer(200, good(n), content_type="text/html")
        elif name == "429":
            self.error(429, "rate_limit_exceeded", headers=[("Retry-After", value)])
        elif name == "429ms":
            self.error(429, "rate_limit_exceeded", headers=[("retry-after-ms", value)])
        elif name == "429date":
            began = 784111777
            self.answer(429, {"error": {"message": "later"}}, [("Retry-After", formatdate(began + int(value), usegmt=True))],
                        date=formatdate(began, usegmt=True))
        elif name == "quota":
            self.error(429, "insufficient_quota")
        elif name == "loading":
            self.answer(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
        elif name == "html":
            self.answer(int(value or 502), b"<html>\n<b>Bad Gateway</b></html>", content_type="text/html")
        elif name == "echo":
            self.error(int(value or 401), "invalid_api_key", "x" * 150 + f"Incorrect API key provided: {key}" + "y" * 300)
        elif name in ("once", "please"):
            self.error(int(value), headers=[("x-should-retry", "true" if name == "please" else "false")])
        elif name == "reset":
            self.reset()
        elif name == "half":
            data = json.dumps(good(n)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.reset()
        elif name == "slow":
            time.sleep(float(value))
            self.answer(200, good(n, chat=chat))
        elif name == "drip":
            data = json.dumps(good(n)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            for i in range(10):
                self.wfile.write(data[i * len(data) // 10 : (i + 1) * len(data) // 10])
                self.wfile.flush()
                time.sleep(float(value) / 10)
        elif name in ("few", "alone"):
            if n > int(value):
                self.error(500 if name == "alone" else 400, message="Only one completion choice is allowed" if name == "alone" else f"n must be at most {value}")
            else:
                self.answer(200, good(n, chat=chat))
        elif name in ("limit", "limit-tokens"):
            what = "tokens" if name == "limit-tokens" else "requests"
            self.answer(200, good(n, chat=chat), [(f"x-ratelimit-remaining-{what}", "0"), (f"x-ratelimit-reset-{what}", value)])
        elif name == "leak":
            data = json.dumps(good(n, chat=chat, text=key.split()[-1])).encode()
            if value:  # as some encoders write these characters
                data = data.replace(b"/", b"\\/").replace(b"=", b"\\u003D")
            self.answer(200, data)
        elif name == "given":
            told = "\n".join(v for k, v in self.headers.items() if k not in ("Host", "Content-Length"))
            body = {"error": {"message": told}} if value == "400" else good(n, chat=chat, text=told)
            data = json.dumps(body).encode()
            self.answer(400 if value == "400" else 200, data.replace(b"/", b"\\u002f") if value == "escaped" else data)
        elif name == "usage":
            took = [int(x) for x in value.split(":")]
            self.answer(200, {**good(n, chat=chat), "usage": {"prompt_tokens": took[0], "completion_tokens": took[1]}})
        elif name == "nousage":
            self.answer(200, {k: v for k, v in good(n, value != "text", chat).items() if k != "usage"})
        elif name == "gzip":
            self.answer(200, gzip.compress(json.dumps(good(n, chat=chat)).encode()), [("Content-Encoding", "gzip")])
        elif name == "bomb":
            data = gzip.compress(json.dumps(good(n, chat=chat)).encode() + b" " * int(value))
            self.answer(200, data, [("Content-Encoding", "gzip")])
        elif name == "redirect":
            self.answer(307, b"", headers=[("Location", f"http://127.0.0.1:{second_server.server_address[1]}/v1/completions")])
        elif name == "large":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            except OSError:
                self.close_connection = True
        else:
            self.error(int(name))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that gives up is part of the game


first_server = Server(("127.0.0.1", 0), Handler)
second_server = Server(("127.0.0.1", 0), Handler)
for server in (first_server, second_server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(first_server.server_address[1], flush=True)
sys.stdin.read()
