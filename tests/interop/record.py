"""Stands between a SCEP client and the server and keeps what both said.

    python3 record.py SERVER_URL CA_FILE FOLDER

Listens on a free port of 127.0.0.1 and prints its URL; the POST number N is kept as
FOLDER/N.request and FOLDER/N.reply, as they came. Runs until it is killed.
"""

import http.server
import pathlib
import ssl
import sys
import urllib.error
import urllib.request

server, ca_file, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
trust = ssl.create_default_context(cafile=ca_file)
number = 0


class Between(http.server.BaseHTTPRequestHandler):
    def pass_on(self, body=None):
        global number
        request = urllib.request.Request(server + self.path, data=body)
        request.add_header("Content-Type", self.headers.get("Content-Type", "application/x-pki-message"))
        try:
            with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
                status, kind, reply = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, reply = error.code, error.headers["Content-Type"], error.read()
        if body is not None:
            number += 1
            (folder / f"{number}.request").write_bytes(body)
            (folder / f"{number}.reply").write_bytes(reply)
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def do_GET(self):
        self.pass_on()

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_):
        pass


listener = http.server.HTTPServer(("127.0.0.1", 0), Between)
print(f"http://127.0.0.1:{listener.server_port}", flush=True)
listener.serve_forever()
