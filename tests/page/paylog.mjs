// A paylog of its own, with everything in one directory: started, asked, stopped and started again.
import { execFileSync, spawn } from 'node:child_process';
import assert from 'node:assert/strict';

const START_MS = 60_000;

export class Paylog {
  constructor(binary, directory, flags = []) {
    Object.assign(this, { binary, directory, flags });
  }

  async start() {
    const args = ['up', '--listen', '127.0.0.1:0', '--data-dir', this.directory, ...this.flags];
    this.process = spawn(this.binary, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, RUST_LOG: 'error' } });
    this.ended = new Promise((done) => { this.process.once('exit', done); });
    this.url = await new Promise((listening, failed) => {
      let said = '';
      setTimeout(() => failed(new Error(`paylog does not listen, but says: ${said}`)), START_MS).unref();
      this.process.once('exit', (code) => failed(new Error(`paylog ended with ${code}`)));
      this.process.stdout.on('data', (text) => {
        said += text;
        const url = /^listening on (\S+)$/m.exec(said);
        if (url) listening(url[1]);
      });
    });
  }

  // Also where a scene has stopped it, or never started it.
  async stop() {
    if (!this.process) return;
    this.process.kill('SIGTERM');
    assert.equal(await this.ended, 0, 'paylog ends well');
  }

  // A key, made while it does not run.
  key(...whose) {
    const words = ['keys', 'create', ...whose, '--reason', 'a test', '--operator', 'ada', '--offline', '--data-dir', this.directory];
    return execFileSync(this.binary, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  }

  // Whoever tries it is told 401 from now on.
  async revoke(key, operator) {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${operator}` };
    const path = `${this.url}/v1/operator/keys/${key.split('_')[1]}/revoke`;
    const answer = await fetch(path, { method: 'POST', headers, body: '{"operator":"ada","reason":"a test"}' });
    assert.equal(answer.status, 200, 'the key is revoked');
  }

  // Pays `count` times, a few at once.
  async payMany(count) {
    let left = count;
    const body = JSON.stringify({ amount: 500, currency: 'EUR', customer_id: 'cus_many', payment_method: 'pm_card_visa' });
    const payer = async () => {
      while (left > 0) {
        left -= 1;
        const headers = { 'content-type': 'application/json', 'idempotency-key': `many-${left}` };
        const answer = await fetch(`${this.url}/v1/payments`, { method: 'POST', headers, body });
        assert.equal(answer.status, 202);
        await answer.arrayBuffer();
      }
    };
    await Promise.all(Array.from({ length: 8 }, payer));
  }

  // With as little effort as there is, so that it can be watched.
  async rebuild() {
    const headers = { 'content-type': 'application/json' };
    const path = `${this.url}/v1/operator/projections/payments/rebuild`;
    const answer = await fetch(path, { method: 'POST', headers, body: '{"effort":1}' });
    assert.equal(answer.status, 202, 'a version is built beside the one that is served');
  }
}
