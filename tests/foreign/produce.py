"""confluent-kafka with fastavro, and its default partitioner, which is not Java's. Prints what it sent as JSON."""
import io
import json
import sys

import fastavro
from confluent_kafka import Producer

bootstrap, topic, schema_path = sys.argv[1:]
schema = json.loads(open(schema_path, encoding="utf-8").read())
parsed = fastavro.parse_schema(dict(schema))
fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
producer = Producer({"bootstrap.servers": bootstrap})


def datum(key):
    out = io.BytesIO()
    asked = {"amount": 1999, "currency": "EUR", "customer_id": "cus_42", "payment_method": "pm_card_visa"}
    fastavro.schemaless_writer(out, parsed, {"merchant_id": "default", "idempotency_key": key, **asked})
    return out.getvalue()


def send(value, key=None):
    def told(error, _):
        if error is not None:
            sys.exit(f"not delivered: {error}")

    producer.produce(topic, value=value, key=key, on_delivery=told)


single_object = b"\xc3\x01" + bytes.fromhex(fingerprint)
keys = [f"python-{n}" for n in range(20)]
for key in keys:
    send(single_object + datum(key), key=key)
truncated = single_object + datum("python-bad")[:-4]
of_registry = b"\x00\x00\x00\x00\x07" + datum("python-bad")
other_schema = b"\xc3\x01" + bytes(8) + datum("python-bad")
bad = [(truncated, "malformed_avro"), (of_registry, "unknown_schema"), (other_schema, "unknown_schema"), (b"", "empty_record")]
for value, _ in bad:
    send(value, key="python-bad")
if producer.flush(60) > 0:
    sys.exit("not everything was delivered")
print(json.dumps({"keys": keys, "bad": [(value.hex(), reason) for value, reason in bad]}))
