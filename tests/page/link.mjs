// A link between the browser and the server that can be cut, and be led to another server: the page keeps its address.
import net from 'node:net';

export class Link {
  constructor() {
    this.sockets = new Set();
    this.port = null;
    this.server = net.createServer((client) => this.join(client));
  }

  async open() {
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  join(client) {
    if (this.port === null) {
      client.resetAndDestroy();
      return;
    }
    const server = net.connect(this.port, '127.0.0.1');
    for (const [one, other] of [[client, server], [server, client]]) {
      this.sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        this.sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }

  // Nothing is there any more, and whatever was under way breaks off.
  cut() {
    this.port = null;
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  mend(url) {
    this.port = Number(new URL(url).port);
  }

  close() {
    this.cut();
    this.server.close();
  }
}
