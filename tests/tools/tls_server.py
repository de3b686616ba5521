#!/usr/bin/env python3
"""A TLS endpoint on loopback (standard library only), to see what a client says to whom.

    tls_server.py LOG CERT KEY [h2]

prints its port as the first line and serves until its standard input ends. Every connection is one JSON line in LOG:
{"handshake": bool, "alpn": name or null, "bytes": how many the client sent inside, "begin": the first of them}. With h2 it chooses HTTP/2
and says no more; else it answers each request with one good completion.
"""
import json
import socket
import ssl
import sys
import threading

REPLY = json.dumps({"choices": [{"text": "a", "index": 0, "finish_reason": "stop", "logprobs": {
    "tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}], "text_offset": [0]}}]}).encode()
log = open(sys.argv[1], "w", encoding="utf-8")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
h2 = "h2" in sys.argv[4:]
context.set_alpn_protocols(["h2"] if h2 else ["http/1.1"])


def serve(raw):
    seen, line = b"", {"handshake": False, "alpn": None}
    raw.settimeout(20)
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            line.update(handshake=True, alpn=s.selected_alpn_protocol())
            while data := s.recv(65536):
                seen += data
                if h2:
                    break
                if b"\r\n\r\n" in seen and seen.rstrip().endswith(b"}"):
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(REPLY) + REPLY)
                    break
    except OSError:
        pass
    log.write(json.dumps({**line, "bytes": len(seen), "begin": seen[:24].decode("latin-1")}) + "\n")
    log.flush()


def accept():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
