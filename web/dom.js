// Elements of the page. Everything that comes from the server or from a field goes into it as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function row(...cells) {
  const made = element('tr');
  made.append(...cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : element('td', cell))));
  return made;
}

export function cell(content, className) {
  const made = element('td', undefined, className);
  made.append(content);
  return made;
}

export function badge(text, kind) {
  return element('span', text, `badge ${kind || ''}`);
}

// A live region speaks when its text is set, also to what it was.
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// Puts rows into a table, and shows it or what stands there instead.
export function fill(body, rows, table, instead) {
  body.replaceChildren(...rows);
  table.hidden = rows.length === 0;
  if (instead) instead.hidden = rows.length > 0;
}

const TIME = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };

export function timeOf(at, digits = 3) {
  const options = digits ? { ...TIME, fractionalSecondDigits: digits } : TIME;
  return new Date(at).toLocaleTimeString([], options);
}

export function momentOf(at) {
  const made = element('time', timeOf(at));
  made.dateTime = new Date(at).toISOString();
  made.title = new Date(at).toISOString();
  return made;
}

export function took(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
