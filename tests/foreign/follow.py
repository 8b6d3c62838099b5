"""Follows all payments with PyPI's httpx-sse or websockets, and writes what it is told: python follow.py CLIENT URL COUNT"""
import json
import sys
import time

CLIENT, URL, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
told = 0


def tell(line):
    print(json.dumps(line), flush=True)


def change(data):
    global told
    tell(data)
    told += 1
    if told == COUNT:
        sys.exit(0)


def with_httpx_sse():
    import httpx
    from httpx_sse import connect_sse

    ready, last_event_id, retry_s = False, "", 1
    with httpx.Client(timeout=60) as client:
        while True:
            headers = {"last-event-id": last_event_id} if last_event_id else {}
            try:
                with connect_sse(client, "GET", f"{URL}/v1/stream", headers=headers) as source:
                    for event in source.iter_sse():
                        last_event_id, retry_s = event.id or last_event_id, (event.retry or 1000) / 1000
                        if event.event == "snapshot" and not ready:
                            ready = True
                            tell("ready")
                        elif event.event.startswith("Payment"):
                            change(event.json())
            except httpx.TransportError:
                pass
            time.sleep(retry_s)


def with_websockets():
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    cursor, retry_s = None, 0.5
    while True:
        try:
            with connect(URL.replace("http:", "ws:") + "/v1/ws") as socket:
                socket.send(json.dumps({"type": "subscribe", "id": "all", "cursor": cursor}))
                for text in socket:
                    message = json.loads(text)
                    if message["type"] == "going_away":
                        retry_s = message["retry_ms"] / 1000
                    if message["type"] == "cursor" and cursor is None:
                        tell("ready")
                    cursor = message.get("cursor") or cursor
                    if "event" in message.get("data", {}):
                        change(message["data"])
        except (ConnectionClosed, OSError):
            pass
        time.sleep(retry_s)


with_websockets() if CLIENT == "websockets" else with_httpx_sse()
