#!/usr/bin/env python3
"""A TLS endpoint on loopback (standard library only), to see what a client says to whom.

    tls_server.py LOG CERT KEY [h2:N]

prints its port as the first line and serves until its standard input ends. Every connection is one JSON line in LOG:
{"handshake": bool, "alpn": name or null, "bytes": how many the client sent inside, "begin": the first of them, "streams": requests of
HTTP/2}. Each request is answered with one good completion; with h2:N by HTTP/2 alone, and as soon as N requests wait on one connection.
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
together = int(sys.argv[4].removeprefix("h2:")) if len(sys.argv) > 4 else 0
context.set_alpn_protocols(["h2"] if together else ["http/1.1"])

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6  # RFC 9113, 6
END_STREAM = ACK = 1
END_HEADERS = 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Http2:
    """The server's side of a connection, as far as one client needs it."""

    def __init__(self):
        self.at, self.begun, self.streams, self.waiting = len(PREFACE), False, 0, []

    def hear(self, seen):
        """What to say to all that was heard."""
        out = b"" if self.begun else frame(SETTINGS, 0, 0)
        self.begun = True
        while len(seen) >= self.at + 9:
            size, kind, flags = int.from_bytes(seen[self.at:self.at + 3], "big"), seen[self.at + 3], seen[self.at + 4]
            stream, payload = int.from_bytes(seen[self.at + 5:self.at + 9], "big"), seen[self.at + 9:self.at + 9 + size]
            if len(payload) < size:
                break
            self.at += 9 + size
            if kind in (SETTINGS, PING) and not flags & ACK:
                out += frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind in (DATA, HEADERS) and flags & END_STREAM:
                self.waiting.append(stream)
        if len(self.waiting) >= together:
            for stream in self.waiting:  # 0x88: ":status: 200" of HPACK's static table
                out += frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, END_STREAM, stream, REPLY)
            self.streams += len(self.waiting)
            self.waiting = []
        return out


def serve(raw):
    seen, line, http2 = b"", {"handshake": False, "alpn": None}, Http2()
    raw.settimeout(20)
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            line.update(handshake=True, alpn=s.selected_alpn_protocol())
            while data := s.recv(65536):
                seen += data
                if together:
                    if not seen.startswith(PREFACE[:len(seen)]):
                        break
                    s.sendall(http2.hear(seen))
                elif b"\r\n\r\n" in seen and seen.rstrip().endswith(b"}"):
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(REPLY) + REPLY)
                    break
    except OSError:
        pass
    log.write(json.dumps({**line, "bytes": len(seen), "begin": seen[:24].decode("latin-1"), "streams": http2.streams}) + "\n")
    log.flush()


def accept():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
