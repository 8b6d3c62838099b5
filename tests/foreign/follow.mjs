// Follows all payments with npm's eventsource or ws, and writes what it is told, a line each: node follow.mjs CLIENT URL COUNT
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.FOREIGN_MODULES, "resolve.js"));
const [client, url, count] = process.argv.slice(2);
let told = 0;

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function change(data) {
  tell(data);
  told += 1;
  if (told === Number(count)) {
    process.exit(0);
  }
}

// It keeps the last id and comes back with it, without a word from us.
function withEventSource() {
  const { EventSource } = require("eventsource");
  const source = new EventSource(`${url}/v1/stream`);
  let ready = false;
  source.addEventListener("snapshot", () => {
    if (!ready) {
      ready = true;
      tell("ready");
    }
  });
  for (const name of ["PaymentInProgress", "PaymentSuccessful", "PaymentFailed"]) {
    source.addEventListener(name, (event) => change(JSON.parse(event.data)));
  }
}

function withWs(cursor) {
  const { WebSocket } = require("ws");
  const socket = new WebSocket(`${url.replace("http:", "ws:")}/v1/ws`);
  let wait = 500;
  socket.on("open", () => socket.send(JSON.stringify({ type: "subscribe", id: "all", cursor })));
  socket.on("error", () => {});
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type === "going_away") {
      wait = message.retry_ms;
    }
    if (message.type === "cursor" && cursor === undefined) {
      tell("ready");
    }
    cursor = message.cursor ?? cursor;
    if (message.data?.event) {
      change(message.data);
    }
  });
  socket.on("close", () => setTimeout(() => withWs(cursor), wait));
}

client === "ws" ? withWs() : withEventSource();
