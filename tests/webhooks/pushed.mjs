// A push service with npm's http_ece, and the browser behind it; who sent is verified by Node's own crypto. Tells on stdout where
// it listens, the browser's keys, and of every message what it has read.
import crypto from "node:crypto";
import { createRequire } from "node:module";
import http from "node:http";

const ece = createRequire(`${process.env.FOREIGN_MODULES}/`)("http_ece");
const privateKey = crypto.createECDH("prime256v1");
privateKey.generateKeys();
const authSecret = crypto.randomBytes(16);

const decrypt = (body) => JSON.parse(ece.decrypt(body, { version: "aes128gcm", privateKey, authSecret }));

function isRead(body) {
  try {
    decrypt(body);
    return true;
  } catch {
    return false;
  }
}

function isSigned(token, key) {
  const [header, claims, signature] = token.split(".");
  const point = Buffer.from(key, "base64url");
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString("base64url"));
  const publicKey = crypto.createPublicKey({ key: { kty: "EC", crv: "P-256", x, y }, format: "jwk" });
  return crypto.verify("sha256", Buffer.from(`${header}.${claims}`), { key: publicKey, dsaEncoding: "ieee-p1363" }, Buffer.from(signature, "base64url"));
}

const server = http.createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  const [, token, key] = /^vapid t=([^,]+),\s*k=(.+)$/.exec(request.headers.authorization);
  const changed = Buffer.from(body);
  changed[changed.length - 1] ^= 1;
  const said = { message: decrypt(body), signed: isSigned(token, key), key, claims: JSON.parse(Buffer.from(token.split(".")[1], "base64url")), tampered: isRead(changed), encoding: request.headers["content-encoding"], ttl: request.headers.ttl };
  response.writeHead(201).end();
  console.log(JSON.stringify(said));
});
server.listen(0, "127.0.0.1", () => {
  console.log(server.address().port);
  console.log(JSON.stringify({ p256dh: privateKey.getPublicKey("base64url"), auth: authSecret.toString("base64url") }));
});
