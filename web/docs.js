// The page of the API: what /openapi.json and /asyncapi.json say, to be read. It knows nothing of any one route.

import { channelOf, operationOf, schemaOf, webhookOf } from './described.js';
import { byId, element, say } from './dom.js';
import { prose } from './prose.js';

const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'options'];

async function read(path) {
  const answer = await fetch(path, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function group(name, description, parts) {
  const made = element('section', undefined, 'described');
  const title = element('h2', name);
  title.id = `of-${name.replace(/\W+/g, '-')}`;
  made.setAttribute('aria-labelledby', title.id);
  made.append(title, ...prose(description), ...parts);
  return made;
}

function operations(openapi) {
  const all = Object.entries(openapi.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method])
    .map((method) => ({ method, path, operation: item[method] })));
  return openapi.tags.map(({ name, description }) => {
    const mine = all.filter(({ operation }) => operation.tags.includes(name));
    return group(name, description, mine.map(({ method, path, operation }) => operationOf(method, path, operation)));
  });
}

function everything(openapi, asyncapi) {
  const webhooks = Object.entries(openapi.webhooks).map(([name, item]) => webhookOf(name, item.post));
  const channels = Object.entries(asyncapi.channels).map(([name, channel]) => channelOf(name, channel, asyncapi));
  const schemas = { ...asyncapi.components.schemas, ...openapi.components.schemas };
  const shapes = Object.keys(schemas).sort().map((name) => schemaOf(name, schemas[name]));
  return [
    ...operations(openapi),
    group('told by webhook', 'What an endpoint is sent, signed as Standard Webhooks 1.0 says.', webhooks),
    group('topics and streams', 'Messages, by the channel that they go over.', channels),
    group('shapes', 'What the others refer to.', shapes),
  ];
}

// A part is shown if all words are somewhere in it; a group if any of its parts is.
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const section of document.querySelectorAll('.described')) {
    let any = false;
    for (const part of section.querySelectorAll(':scope > details')) {
      const there = part.textContent.toLowerCase();
      part.hidden = !words.every((word) => there.includes(word));
      if (!part.hidden) [any, found] = [true, found + 1];
    }
    section.hidden = !any;
  }
  say(byId('found'), words.length === 0 ? '' : `${found} found`);
}

function idOf(hash) {
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash; // of no link of ours
  }
}

// A link to a part opens it.
function open() {
  const part = location.hash.length > 1 && byId(idOf(location.hash.slice(1)));
  if (!part || part.tagName !== 'DETAILS') return;
  if (part.hidden) [byId('find').value] = ['', find('')];
  part.open = true;
  part.scrollIntoView();
  part.querySelector('summary').focus({ preventScroll: true });
}

try {
  const [openapi, asyncapi] = await Promise.all([read('/openapi.json'), read('/asyncapi.json')]);
  byId('title').textContent = `API ${openapi.info.version}`;
  byId('about').append(...prose(openapi.info.description));
  byId('described').append(...everything(openapi, asyncapi));
  byId('find').addEventListener('input', ({ target }) => find(target.value));
  byId('search').addEventListener('submit', (event) => event.preventDefault());
  addEventListener('hashchange', open);
  open();
} catch (error) {
  byId('failed').hidden = false;
  say(byId('failed'), `The description cannot be read: ${error.message}`);
}
