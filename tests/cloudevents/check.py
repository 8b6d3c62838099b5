"""Makes events in every way that there is, and holds all that was written and told to the libraries of others."""
import datetime
import http.server
import json
import sys
import threading
import time
import urllib.error
import urllib.request

import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent as AzureCloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient
from cloudevents.core.bindings.http import HTTPMessage, from_http, to_binary, to_structured
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, Producer, TopicPartition

PATIENCE_S = 120
PAYMENT = {"amount": 1999, "currency": "EUR", "customer_id": "cus_42", "payment_method": "pm_card_visa"}
TOPIC_KEY = "dG9waWMga2V5IG9mIGEgdGVzdA=="
NAMES = {
    "paylog.PaymentInProgress",
    "paylog.PaymentSuccessful",
    "paylog.PaymentFailed",
    "paylog.PaymentParked",
    "paylog.PaymentResumed",
}


def main():
    url, bootstrap, prefix = sys.argv[1:]
    until("it is ready", lambda: ask("GET", f"{url}/readyz")[0] == 200)
    webhook, topic = Told(), Told()
    created = [
        {"url": webhook.url, "payload": "cloudevents"},
        {"kind": "event_grid", "url": f"{topic.url}api/events", "credential": TOPIC_KEY},
    ]
    for body in created:
        expect(ask("POST", f"{url}/v1/webhook_endpoints", body)[0] == 201, f"there is an endpoint: {body['url']}")
    payments = [pay(url, "order-1", "pm_card_visa"), pay(url, "order-2", "pm_card_visa_chargeDeclined")]
    payments += sent_by_event_grids_sdk(url)
    payments += sent_by_the_sdk_of_cloud_events(url)
    by_kafka(bootstrap, f"{prefix}.requests")
    payments.append(resumed(url))
    payments = set(payments)
    for payment in payments:
        until(f"{payment} has ended", lambda: ask("GET", f"{url}/v1/payments/{payment}")[1]["phase"] == "done")
    # One more came over Kafka, whose id nobody told us.
    written = until("all of it is written", lambda: complete(read(bootstrap, prefix), len(payments) + 1))
    ids = {(event.get_source(), event.get_id()) for event in written}
    expect(len(ids) == len(written), "no two events have the same source and id")
    expect({event.get_type() for event in written} == NAMES, f"every writer has written: {NAMES}")
    for told in (webhook, topic):
        until("all of it is told", lambda: {(one.get_source(), one.get_id()) for one in told.events} >= ids)
        expect(not told.wrong, f"what was told is right: {told.wrong[:1]}")
        same(written, told.events)
    expect(all(one["aeg-sas-key"] == TOPIC_KEY for one in topic.heads), "the topic has its key")
    expect({one["content-type"].split(";")[0] for one in topic.heads} == {"application/cloudevents-batch+json"}, "a batch")
    expect({one["path"] for one in topic.heads} == {"/api/events?api-version=2018-01-01"}, f"the path: {topic.heads[0]}")
    largest = max(sum(len(name) + len(value) for name, value in event.headers) for event in written_records)
    print(f"{len(written)} records are CloudEvents to the SDK (headers: {largest} bytes at most), and were told to a webhook")
    print(f"and a topic of Event Grid; {len(payments)} payments of which Event Grid's SDK and the SDK of CloudEvents sent some")


# === payments, in every way ===


def pay(url, key, method):
    headers = {"idempotency-key": key, "prefer": "wait=30"}
    status, paid = ask("POST", f"{url}/v1/payments", {**PAYMENT, "payment_method": method}, headers)
    expect(status == 200, f"{key} is paid: {paid}")
    return paid["id"]


def sent_by_event_grids_sdk(url):
    """The door takes what Azure's own library publishes to a topic; the same event twice is one payment."""
    client = EventGridPublisherClient(f"{url}/v1/event_grid", AzureKeyCredential("not looked at"), retry_total=0)
    cloud = [AzureCloudEvent(source="/azure/orders", type="Ordered", id=f"c{n}", data=PAYMENT) for n in range(3)]
    grid = [
        EventGridEvent(subject="orders", event_type="Ordered", data=PAYMENT, data_version="1", id=f"g{n}", topic="/azure/topic")
        for n in range(3)
    ]
    cncf = CloudEvent({"source": "/azure/orders", "type": "Ordered", "id": "n1", "specversion": "1.0"}, PAYMENT)
    for events in (cloud, grid, cloud, grid):
        client.send(events)
    bad = AzureCloudEvent(source="/azure/orders", type="Ordered", id="bad", data={**PAYMENT, "amount": -1})
    try:
        client.send([AzureCloudEvent(source="/azure/orders", type="Ordered", id="beside", data=PAYMENT), bad])
        raise SystemExit("not so: an event that can never be paid is refused")
    except HttpResponseError as refused:
        expect(refused.status_code == 400, f"Event Grid keeps it as a dead letter: {refused}")
    keys = [f"/azure/orders/c{n}" for n in range(3)] + [f"/azure/topic/g{n}" for n in range(3)] + ["/azure/orders/beside"]
    return [pay(url, key, "pm_card_visa") for key in keys]


def sent_by_the_sdk_of_cloud_events(url):
    attributes = {"source": "/shop", "type": "Ordered", "specversion": "1.0", "datacontenttype": "application/json"}
    attributes["time"] = datetime.datetime.now(datetime.timezone.utc)
    payments = []
    for number, bind in enumerate([to_binary, to_structured]):
        for event_id in (f"{number}", "caf\u00e9 \"1\\2\" 100%"):
            message = bind(CloudEvent({**attributes, "id": event_id}, PAYMENT), JSONFormat())
            answer = requests.post(f"{url}/v1/event_grid", data=message.body, headers=message.headers, timeout=30)
            expect(answer.status_code == 200, f"{bind.__name__} is taken: {answer.text}")
            payments += answer.json()["payments"]
    expect(payments[1] == payments[3] and len(set(payments)) == 3, f"in both modes it is one event: {payments}")
    return payments


def by_kafka(bootstrap, topic):
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, key="kafka-1", value=json.dumps(PAYMENT))
    expect(producer.flush(30) == 0, "the request is on the topic")


def resumed(url):
    """Parked, for something else was charged than asked for; and settled by a person."""
    status, paid = ask("POST", f"{url}/v1/payments", {**PAYMENT, "payment_method": "pm_sim_wrong_amount"}, {"idempotency-key": "odd"})
    expect(status == 202, f"it is begun: {paid}")
    at = until("it is parked", lambda: (lambda body: body["phase"] == "parked" and body)(ask("GET", f"{url}/v1/payments/{paid['id']}")[1]))
    decision = {"at_version": at["version"], "operator": "ada", "reason": "seen", "decision": "settle_failed", "code": "fraud"}
    status, answer = ask("POST", f"{url}/v1/operator/parked/{paid['id']}/resume", decision)
    expect(status == 200, f"it is resumed: {answer}")
    return paid["id"]


# === what was written, and what was told ===

written_records = []


class Record:
    def __init__(self, message):
        self.key, self.headers = message.key(), message.headers()


def read(bootstrap, topic):
    """Every record that stands on the log now, as the SDK reads it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody", "enable.auto.commit": False})
    partitions = [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic, 30).topics[topic].partitions]
    consumer.assign(partitions)
    left = {one.partition: consumer.get_watermark_offsets(one, 30)[1] for one in partitions}
    events = []
    written_records.clear()
    deadline = time.monotonic() + PATIENCE_S
    while any(consumer.position([TopicPartition(topic, number)])[0].offset < end for number, end in left.items()):
        expect(time.monotonic() < deadline, "the log can be read to its end")
        message = consumer.poll(0.2)
        if message is None:
            continue
        expect(message.error() is None, f"the log can be read: {message.error()}")
        event = from_kafka(KafkaMessage(dict(message.headers()), message.key(), message.value()), JSONFormat())
        expect(event.get_subject() == message.key().decode(), f"its subject is the payment: {event.get_attributes()}")
        expect(event.get_datacontenttype() == "application/avro" and event.get_dataschema(), "it is Avro, of a schema")
        expect(event.get_data() == message.value(), "its data is the record")
        events.append(event)
        written_records.append(Record(message))
    consumer.close()
    return events


def complete(events, payments):
    ends = [event for event in events if event.get_type() in ("paylog.PaymentSuccessful", "paylog.PaymentFailed")]
    return len(ends) == payments and events


def same(written, told):
    by_id = {event.get_id(): event for event in told}
    for event in written:
        other = by_id[event.get_id()]
        for part in ("get_source", "get_type", "get_subject", "get_time"):
            expect(getattr(event, part)() == getattr(other, part)(), f"{part} is the same: {event} {other}")
        data = other.get_data()
        expect(data["event"]["id"] == event.get_id() and data["payment"]["id"] == event.get_subject(), f"its data: {data}")
        expect(int(other.get_extension("sequence")) == data["event"]["version"], "its sequence is the version")
        expect(other.get_extension("partitionkey") == event.get_subject(), "its partition key is the payment")


class Told:
    """A server that reads what it is sent with the SDK."""

    def __init__(self):
        self.events, self.heads, self.wrong = [], [], []
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                try:
                    told.take(self.path, headers, body)
                except Exception as wrong:
                    told.wrong.append(repr(wrong))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        structured = {"content-type": "application/cloudevents+json"}
        if headers["content-type"].startswith("application/cloudevents-batch+json"):
            events = [from_http(HTTPMessage(structured, json.dumps(one).encode()), JSONFormat()) for one in json.loads(body)]
            # Azure's own library reads it too.
            [AzureCloudEvent.from_dict(one) for one in json.loads(body)]
        else:
            events = [from_http(HTTPMessage(headers, body), JSONFormat())]
        self.heads.append({"path": path, **headers})
        self.events += events


def ask(method, url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, {}


def until(what, fact):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := fact()):
        expect(time.monotonic() < deadline, f"waited in vain: {what}")
        time.sleep(0.05)
    return found


def expect(fact, what):
    if not fact:
        raise SystemExit(f"not so: {what}")


main()
