"""A push service with PyPI's http-ece and py-vapid, and the browser behind it. Tells on stdout where it listens, the browser's
keys, and of every message what it has read."""
import base64
import http.server
import json
import os
import sys
import threading

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

PRIVATE = ec.generate_private_key(ec.SECP256R1())
AUTH = os.urandom(16)


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decrypt(body):
    return json.loads(http_ece.decrypt(body, private_key=PRIVATE, auth_secret=AUTH, version="aes128gcm"))


def is_read(body):
    try:
        decrypt(body)
        return True
    except Exception:  # whatever the library makes of it
        return False


class PushService(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        authorization = self.headers["authorization"]
        token, key = authorization.removeprefix("vapid t=").split(",k=")
        said = {"message": decrypt(body), "signed": Vapid02.verify(authorization), "key": key}
        said |= {"claims": json.loads(decode(token.split(".")[1])), "tampered": is_read(body[:-1] + bytes([body[-1] ^ 1]))}
        said |= {"encoding": self.headers["content-encoding"], "ttl": self.headers["ttl"]}
        self.send_response(201)
        self.end_headers()
        print(json.dumps(said), flush=True)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), PushService)
print(server.server_port, flush=True)
public = PRIVATE.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
print(json.dumps({"p256dh": encode(public), "auth": encode(AUTH)}), flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
