// What became of one connection, for whoever looks: its state, since when, how often it was lost, and where it stands.

import { say, timeOf } from './dom.js';

const STATES = {
  connecting: ['connecting', 'wait'],
  live: ['live', 'good'],
  lost: ['reconnecting', 'wait'],
  ended: ['all was told', ''],
  refused: ['refused', 'bad'],
};

export class Connection {
  constructor(place) {
    this.place = place;
    this.losses = 0;
    this.lastLoss = null;
    this.becomes('connecting');
  }

  becomes(state, detail = '') {
    // Every failed try to come back is of the same loss.
    if (state === 'lost' && this.state !== 'lost') {
      this.losses += 1;
      this.lastLoss = Date.now();
    }
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    this.detail = detail;
    this.show();
  }

  stands(cursor) {
    this.cursor = cursor;
    this.show();
  }

  show() {
    const [text, kind] = STATES[this.state];
    const badge = this.place.querySelector('.badge');
    say(badge, text);
    badge.className = `badge ${kind}`;
    const since = `since ${timeOf(this.since, 0)}`;
    const again = this.losses === 0 ? '' : `, reconnected ${this.losses === 1 ? 'once' : `${this.losses} times`}, last lost at ${timeOf(this.lastLoss, 0)}`;
    const lost = this.losses === 0 ? '' : `, lost ${this.losses === 1 ? 'once' : `${this.losses} times`}`;
    const counted = this.state === 'lost' ? lost : again;
    say(this.place.querySelector('.detail'), this.detail || since + counted);
    say(this.place.querySelector('.cursor'), this.cursor ? `cursor ${this.cursor}` : '');
  }
}
