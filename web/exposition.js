// Prometheus's text exposition format, as far as /metrics uses it: samples with their labels.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

export function parse(text) {
  const samples = new Map();
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : SAMPLE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] || '').matchAll(LABEL)].map(([, name, value]) => [name, value]));
    if (!samples.has(match[1])) samples.set(match[1], []);
    samples.get(match[1]).push({ labels, value: match[3] === 'NaN' ? null : Number(match[3]) });
  }
  return new Samples(samples);
}

class Samples {
  constructor(samples) {
    this.samples = samples;
  }

  // All samples of a name that have these labels.
  all(name, labels = {}) {
    const has = (sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value);
    return (this.samples.get(name) || []).filter(has);
  }

  one(name, labels) {
    const [first] = this.all(name, labels);
    return first ? first.value : null;
  }

  // A counter that was never counted up is 0.
  sum(name, labels) {
    return this.all(name, labels).reduce((sum, { value }) => sum + (value || 0), 0);
  }
}
