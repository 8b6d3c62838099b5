"""Confluent's Python client with a schema registry: asks for payments, reads events, reads two versions. Prints JSON.

    confluent.py produce|consume|evolve BOOTSTRAP REGISTRY TOPIC
"""
import json
import pathlib
import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

SCHEMAS = pathlib.Path(__file__).resolve().parent.parent.parent / "schemas"
# A schema of somebody's own, in which paylog finds what it needs.
THEIRS = json.dumps({
    "type": "record", "name": "PaymentRequested", "namespace": "com.example.shop", "fields": [
        {"name": "till", "type": {"type": "array", "items": "string"}},
        {"name": "amount", "type": "int"},
        {"name": "payment_method", "type": "string"},
        {"name": "customer_id", "type": "string"},
        {"name": "currency", "type": "string"},
        {"name": "idempotency_key", "type": "string"},
        {"name": "merchant_id", "type": "string"},
    ]})
task, bootstrap, registry_url, topic = sys.argv[1:]
registry = SchemaRegistryClient({"url": registry_url})


def serializer(schema, register):
    settings = {"auto.register.schemas": register, "subject.name.strategy": topic_record_subject_name_strategy}
    return AvroSerializer(registry, schema, conf=settings)


def send_all(values):
    def told(error, _):
        if error is not None:
            sys.exit(f"not delivered: {error}")

    producer, context = Producer({"bootstrap.servers": bootstrap}), SerializationContext(topic, MessageField.VALUE)
    for write, value in values:
        producer.produce(topic, value=write(value, context), key="any", partition=0, on_delivery=told)
    if producer.flush(60) > 0:
        sys.exit("not everything was delivered")


def read_all(deserializers):
    """Every committed record from the beginning, by each of the deserializers."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False,
                         "enable.partition.eof": True, "isolation.level": "read_committed"})
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    left, context = set(partitions), SerializationContext(topic, MessageField.VALUE)
    while left:
        message = consumer.poll(60)
        if message is None:
            sys.exit(f"{topic} cannot be read to its end")
        if message.error() is not None:
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(f"{topic}: {message.error()}")
            left.discard(message.partition())
            continue
        yield message, [read(message.value(), context) for read in deserializers]
    consumer.close()


def produce():
    asked = {"merchant_id": "default", "currency": "EUR", "customer_id": "cus_42", "payment_method": "pm_card_visa"}
    ours = serializer((SCHEMAS / "PaymentRequested.avsc").read_text(encoding="utf-8"), register=False)
    theirs = serializer(THEIRS, register=True)
    paid = {}
    for n in range(5):
        paid[f"confluent-{n}"], paid[f"theirs-{n}"] = 1999 + n, 1250 + n
    values = [(ours, {**asked, "idempotency_key": key, "amount": amount, "description": "Zwei Bücher", "metadata": {"n": key}})
              for key, amount in paid.items() if key.startswith("confluent")]
    values += [(theirs, {**asked, "idempotency_key": key, "amount": amount, "till": ["7", "8"]})
               for key, amount in paid.items() if key.startswith("theirs")]
    send_all(values)
    return paid


def consume():
    events = []
    for message, [event] in read_all([AvroDeserializer(registry)]):
        headers = dict(message.headers())
        events.append({"type": headers["ce_type"].decode(), "data": event})
    return events


def evolve():
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    first, second = [(SCHEMAS / name).read_text(encoding="utf-8").strip() for name in ["PaymentFailed.avsc", "example/PaymentFailed.2.avsc"]]
    subject = f"{topic}-paylog.PaymentFailed"
    registry.register_schema(subject, Schema(first, "AVRO"))
    registry.set_compatibility(subject_name=subject, level="FULL_TRANSITIVE")
    registry.register_schema(subject, Schema(second, "AVRO"))
    event = {"event_id": uuid.uuid4(), "payment_id": "pay_x", "occurred_at": 1764000000000000, "message": "no", "attempt": 1}
    send_all([(serializer(first, register=False), {**event, "code": "card_declined"}),
              (serializer(second, register=False), {**event, "code": "insufficient_funds", "network_code": "51"})])
    read = {"old": [], "new": []}
    for _, (old, new) in read_all([AvroDeserializer(registry, first), AvroDeserializer(registry, second)]):
        read["old"].append(old)
        read["new"].append(new)
    return read


print(json.dumps({"produce": produce, "consume": consume, "evolve": evolve}[task](), default=str))
