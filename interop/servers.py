"""Two servers for the operator's day, on free loopback ports.

    servers.py broken          a registry that answers everything with 503
    servers.py receiver FILE   accepts webhooks, and appends each to FILE as a line of JSON

Each prints `listening on 127.0.0.1:PORT` first.
"""

import http.server
import json
import sys


class Broken(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        line = {"headers": {name.lower(): value for name, value in self.headers.items()}, "body": body.decode()}
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


handler = {"broken": Broken, "receiver": Receiver}[sys.argv[1]]
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
