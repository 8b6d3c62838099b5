// Live charts of the last minutes, drawn by uPlot (MIT, vendor/uplot). Each says in words what its newest point is, for who
// does not see it.

import uPlot from './vendor/uplot/uPlot.esm.js';
import { element, timeOf } from './dom.js';

// Points kept: ten minutes, at one every two seconds.
const POINTS_MAX = 300;
// As wide as this from the beginning.
const SECONDS_MIN = 60;
const HEIGHT = 190;
// Steps between the ticks of an axis.
const WHOLE = [...Array(12).keys()].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));

const dark = matchMedia('(prefers-color-scheme: dark)');
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  // Each of `series` is { name, colour, dash }, `colour` a custom property of the style; `say` makes text of a value, `whole` if there are no halves.
  constructor(place, title, series, say, whole = false) {
    Object.assign(this, { series, say, whole, times: [], values: series.map(() => []) });
    const figure = element('figure', undefined, 'chart');
    const caption = element('figcaption');
    this.legend = series.map((one) => this.entry(one));
    caption.append(element('h2', title), ...this.legend.map(({ item }) => item));
    this.canvas = element('div', undefined, 'plot');
    this.canvas.setAttribute('role', 'img');
    this.title = title;
    figure.append(caption, this.canvas);
    place.append(figure);
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    dark.addEventListener('change', () => this.draw());
  }

  entry({ name, colour: property, dash }) {
    const item = element('span', undefined, 'key');
    const swatch = element('i', undefined, dash && 'dashed');
    swatch.style.setProperty('border-color', `var(${property})`);
    const value = element('b', '–');
    item.append(swatch, `${name} `, value);
    return { item, value };
  }

  // `null` is a gap.
  push(time, values) {
    this.times.push(time);
    values.forEach((value, i) => this.values[i].push(value));
    if (this.times.length > POINTS_MAX) [this.times, ...this.values].forEach((list) => list.shift());
    const said = values.map((value) => (value === null ? '–' : this.say(value)));
    this.legend.forEach(({ value }, i) => { value.textContent = said[i]; });
    this.canvas.setAttribute('aria-label', `${this.title}, now: ${this.series.map(({ name }, i) => `${name} ${said[i]}`).join(', ')}`);
    if (this.plot) this.plot.setData([this.times, ...this.values]);
    else this.draw();
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (width > 0 && this.plot && this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
    else if (width > 0 && !this.plot) this.draw();
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (width === 0 || this.times.length === 0) return; // it is not seen, and will be drawn when it is
    if (this.plot) this.plot.destroy();
    this.plot = new uPlot(this.options(width), [this.times, ...this.values], this.canvas);
  }

  options(width) {
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line'), width: 1 }, font: '12px system-ui, sans-serif' };
    const line = ({ name, colour: property, dash }) => ({ label: name, stroke: colour(property), width: 2, dash, points: { show: false }, spanGaps: false });
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 28, 0, 0],
      scales: {
        x: { range: () => [Math.min(this.times[0], this.times.at(-1) - SECONDS_MIN), this.times.at(-1)] },
        y: { range: (_, __, max) => [0, Math.max(max * 1.15, this.whole ? 4 : 0) || 1] },
      },
      axes: [
        { ...axis, space: 90, size: 30, values: (_, ticks) => ticks.map((tick) => timeOf(tick * 1000, 0)) },
        { ...axis, size: 62, incrs: this.whole ? WHOLE : undefined, values: (_, ticks) => ticks.map((tick) => this.say(tick)) },
      ],
      series: [{}, ...this.series.map(line)],
    };
  }
}
