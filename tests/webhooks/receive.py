"""A receiver with PyPI's standardwebhooks: takes what it can verify, and refuses the rest. Tells on stdout what it took."""
import http.server
import json
import sys
import threading

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

secrets = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = {"id": headers["webhook-id"], "body": json.loads(body), "by": [], "tampered": False}
        for number, secret in enumerate(secrets):
            if verifies(secret, body, headers):
                said["by"].append(number)
            said["tampered"] |= verifies(secret, body + " ", headers)
        self.send_response(204 if said["by"] else 400)
        self.end_headers()
        print(json.dumps(said), flush=True)

    def log_message(self, *_):
        pass


def verifies(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:
    secrets[:] = json.loads(line)
    print(json.dumps({"knows": len(secrets)}), flush=True)
