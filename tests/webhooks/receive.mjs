// A receiver with npm's standardwebhooks: takes what it can verify, and refuses the rest. Tells on stdout what it took.
import { createRequire } from "node:module";
import http from "node:http";
import readline from "node:readline";

const { Webhook } = createRequire(`${process.env.FOREIGN_MODULES}/`)("standardwebhooks");
let secrets = [];

const verifies = (secret, body, headers) => {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
};

const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const piece of request.setEncoding("utf8")) body += piece;
  const by = secrets.flatMap((secret, number) => (verifies(secret, body, request.headers) ? [number] : []));
  const tampered = secrets.some((secret) => verifies(secret, `${body} `, request.headers));
  response.writeHead(by.length > 0 ? 204 : 400).end();
  console.log(JSON.stringify({ id: request.headers["webhook-id"], body: JSON.parse(body), by, tampered }));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
for await (const line of readline.createInterface({ input: process.stdin })) {
  secrets = JSON.parse(line);
  console.log(JSON.stringify({ knows: secrets.length }));
}
