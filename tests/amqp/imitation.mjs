// Answers as a queue of Azure Service Bus does, as far as its protocol guide says (npm's rhea): login by SASL PLAIN alone,
// messages locked until they are settled, links for the queue `orders` only.
//
//   node imitation.mjs USER PASSWORD [N]     messages to give out, a JSON object a line, on stdin: {"id", "body", "properties"};
//                                             {"id", "raw"} are its bytes in base64, whatever they are
//
// With N it answers who wants to send it something with N lists in each other. It takes messages too.
// Prints {"port"}, and then a line for each message that was settled: its id, the outcome, and what came with it.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const rhea = createRequire(`${process.env.AMQP_MODULES}/`)("rhea");
const [, , user, password, nested] = process.argv;
const waiting = readFileSync(0, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const given = new Map();
let lists = null;
for (let level = 0; level < Number(nested ?? 0); level += 1) lists = rhea.types.wrap_list([lists]);

const container = rhea.create_container({ id: "imitation" });
container.sasl_server_mechanisms.enable_plain((name, key) => name === user && key === password);
const print = (line) => console.log(JSON.stringify(line));

container.on("sender_open", ({ sender }) => {
  if (sender.source.address !== "orders") {
    sender.close({ condition: "amqp:not-found", description: `no entity ${sender.source.address}` });
    return;
  }
  sender.set_source({ address: "orders" });
});
container.on("receiver_open", ({ receiver }) => {
  receiver.set_target({ address: receiver.target.address });
  if (lists !== null) receiver.local.attach.properties = { nested: lists };
});
container.on("sendable", ({ sender }) => {
  while (sender.sendable() && waiting.length > 0) {
    const { id, body, properties, raw } = waiting.shift();
    const message = { message_id: id, application_properties: properties, body };
    const delivery = raw ? sender.send(Buffer.from(raw, "base64"), undefined, 0) : sender.send(message);
    given.set(delivery, id ?? null);
  }
});
for (const outcome of ["accepted", "rejected", "released", "modified"]) {
  container.on(outcome, ({ delivery }) => {
    const state = delivery.remote_state;
    const { condition, description, info } = state.error ?? {};
    const flags = { failed: state.delivery_failed, elsewhere: state.undeliverable_here };
    print({ id: given.get(delivery), outcome, settled: delivery.remote_settled, condition, description, info, ...flags });
  });
}
container.on("connection_error", () => {});
container.on("disconnected", () => {});

const server = container.listen({ host: "127.0.0.1", port: 0 });
server.on("listening", () => print({ port: server.address().port }));
