// kafkajs with its default partitioner, one producer, one batch. Prints what it sent as JSON.
import { createRequire } from "node:module";

const { Kafka, logLevel } = createRequire(`${process.env.FOREIGN_MODULES}/`)("kafkajs");
const [bootstrap, topic] = process.argv.slice(2);

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";
const payment = { amount: 1999, currency: "EUR", customer_id: "cus_42", payment_method: "pm_card_visa" };
const json = JSON.stringify(payment);
const keys = Array.from({ length: 20 }, (_, n) => `node-${n}`);
const card = JSON.stringify({ ...payment, payment_method: "4242424242424242" });
const bad = [
  [card, "card_number"],
  [JSON.stringify({ ...payment, amount: "1999" }), "amount_not_a_number"],
];

const producer = new Kafka({ brokers: bootstrap.split(","), logLevel: logLevel.ERROR }).producer();
await producer.connect();
await producer.send({
  topic,
  messages: [
    ...keys.map((key) => ({ key: "cus_42", value: json, headers: { "idempotency-key": key } })),
    ...bad.map(([value]) => ({ key: "node-bad", value })),
  ],
});
await producer.disconnect();
console.log(JSON.stringify({ keys, bad: bad.map(([value, reason]) => [Buffer.from(value).toString("hex"), reason]) }));
