// An AMQP 1.0 client that is not ours (npm's rhea): puts messages on a queue, and takes what is on one.
//
//   node queue.mjs BROKER send QUEUE     one JSON object a line on stdin: {"id", "body", "properties", "group", "binary"}
//   node queue.mjs BROKER read QUEUE N   waits for N messages, takes them, and prints a JSON object a line; with N `all`,
//                                        what there is when nothing more has come for a second
//
// BROKER is amqp://127.0.0.1:PORT; the user is `paylog`. rhea is looked for in AMQP_MODULES. Ends with 1 after PATIENCE_MS.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const rhea = createRequire(`${process.env.AMQP_MODULES}/`)("rhea");
const PATIENCE_MS = 60_000;
const QUIET_MS = 1_000;
const AGAIN_MS = 200;

const [, , broker, verb, queue, count] = process.argv;
const { hostname, port } = new URL(broker.replace("amqp:", "http:"));
const container = rhea.create_container();
const login = { host: hostname, port, username: "paylog", password: "paylog-key", reconnect: false };
// One that is named with its address is there, of whatever kind.
const terminus = queue.includes("::") ? { address: queue } : { address: queue, capabilities: ["queue"] };

setTimeout(() => fail("waited in vain"), PATIENCE_MS).unref();
container.on("disconnected", ({ error }) => fail(`disconnected: ${error}`));
container.on("connection_error", ({ connection }) => fail(`connection: ${connection.error}`));
container.on("sender_error", ({ sender }) => fail(`sender: ${sender.error}`));

function fail(why) {
  console.error(`queue.mjs: ${why}`);
  process.exit(1);
}

function send(lines) {
  const messages = lines.map((line) => JSON.parse(line));
  let sent = 0;
  let accepted = 0;
  if (messages.length === 0) process.exit(0);
  container.on("sendable", ({ sender }) => {
    for (; sent < messages.length && sender.sendable(); sent += 1) {
      const { id, body, properties, group, binary } = messages[sent];
      const content = binary ? rhea.message.data_section(Buffer.from(body, "base64")) : body;
      sender.send({ durable: true, message_id: id, group_id: group, application_properties: properties, body: content });
    }
  });
  container.on("accepted", ({ connection }) => {
    accepted += 1;
    if (accepted === messages.length) done(connection);
  });
  container.on("rejected", () => fail("a message was rejected"));
  container.connect(login).open_sender({ target: terminus });
}

function read(wanted) {
  let taken = 0;
  let quiet;
  const connection = container.connect(login);
  const wait = () => {
    clearTimeout(quiet);
    if (wanted === undefined) quiet = setTimeout(() => done(connection), QUIET_MS);
  };
  container.on("receiver_open", wait);
  container.on("message", ({ message, delivery, receiver }) => {
    const { message_id: id, group_id: group, subject, content_type: type, application_properties: properties } = message;
    const body = message.body?.content ?? message.body;
    const text = Buffer.isBuffer(body) ? body.toString() : body;
    console.log(JSON.stringify({ id, group, subject, type, properties, count: message.delivery_count, body: text }));
    delivery.accept();
    taken += 1;
    if (taken === wanted) done(connection);
    else if (wanted !== undefined) receiver.add_credit(1);
    else wait();
  });
  const credit = wanted === undefined ? { credit_window: 100 } : { credit_window: 0 };
  const open = () => {
    const receiver = connection.open_receiver({ source: terminus, autoaccept: false, ...credit });
    if (wanted !== undefined) receiver.add_credit(1);
  };
  // Artemis makes the queue of dead letters with the first of them.
  container.on("receiver_error", ({ receiver }) => {
    if (receiver.error.condition !== "amqp:not-found") fail(`receiver: ${receiver.error}`);
    setTimeout(open, AGAIN_MS);
  });
  open();
}

// What was settled is on its way before the goodbye, and what was printed is in the reader's hands: a pipe holds 64 KiB, and
// `process.exit` waits for no more than that.
function done(connection) {
  container.removeAllListeners("disconnected");
  container.on("connection_close", () => process.stdout.write("", () => process.exit(0)));
  connection.close();
}

if (verb === "send") send(readFileSync(0, "utf8").split("\n").filter(Boolean));
else if (verb === "read") read(count === "all" ? undefined : Number(count));
else fail("send or read?");
