// One operation, webhook, channel or shape of the description, as something that opens.

import { cell, element, row } from './dom.js';
import { inline, prose } from './prose.js';

const WHO = {
  merchantKey: "a merchant's key", operatorKey: "an operator's key", streamToken: 'a stream token',
  streamCookie: 'its cookie', streamTicket: 'a ticket',
};

// === shapes ===

function reference(path) {
  const name = path.split('/').at(-1);
  const made = element('a', name);
  made.href = `#shape-${name}`;
  return made;
}

// In words, with links to what has a name.
function kind(schema) {
  if (!schema || Object.keys(schema).length === 0) return ['anything'];
  if (schema.$ref) return [reference(schema.$ref)];
  const several = schema.oneOf || schema.anyOf || (schema.allOf && !schema.properties && schema.allOf);
  if (several) return several.flatMap((one, index) => [...(index > 0 ? [schema.allOf ? ' with ' : ' or '] : []), ...kind(one)]);
  if (schema.allOf) return schema.allOf.flatMap(kind);
  if (schema.const !== undefined) return [element('code', JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((one, index) => [...(index > 0 ? [', '] : []), element('code', String(one))]);
  const type = [schema.type].flat().filter(Boolean).join(' or ');
  if (schema.items) return ['list of ', ...kind(schema.items)];
  if (schema.additionalProperties && !schema.properties) return ['object of ', ...kind(schema.additionalProperties)];
  const bounds = ['minimum', 'maximum', 'minLength', 'maxLength', 'pattern', 'format']
    .filter((bound) => schema[bound] !== undefined).flatMap((bound) => [`, ${bound} `, element('code', String(schema[bound]))]);
  return [type || 'anything', ...bounds];
}

function cellOf(parts, className) {
  const made = element('td', undefined, className);
  made.append(...parts);
  return made;
}

function table(heads, rows, name) {
  const scroll = element('div', undefined, 'scroll');
  scroll.tabIndex = 0;
  scroll.setAttribute('role', 'group');
  scroll.setAttribute('aria-label', name);
  const made = element('table');
  const head = element('tr');
  head.append(...heads.map((text) => { const th = element('th', text); th.scope = 'col'; return th; }));
  const [thead, tbody] = [element('thead'), element('tbody')];
  thead.append(head);
  tbody.append(...rows);
  made.append(thead, tbody);
  scroll.append(made);
  return scroll;
}

function members(schema, name) {
  const rows = Object.entries(schema.properties).map(([member, of]) => {
    const always = (schema.required || []).includes(member);
    return row(cell(element('code', member)), cellOf(kind(of)), always ? 'always' : 'perhaps', cellOf(inline(of.description || '')));
  });
  return table(['Member', 'What', 'There', 'Says'], rows, `Members of ${name}`);
}

function shape(schema, name) {
  if (schema.allOf) return schema.allOf.flatMap((one) => shape(one, name));
  if (schema.oneOf && schema.oneOf.some((one) => one.properties)) {
    return schema.oneOf.flatMap((one, index) => [element('p', index === 0 ? 'Either' : 'or', 'note'), ...shape(one, `${name}, ${index + 1}`)]);
  }
  if (schema.properties) return [members(schema, name)];
  const made = element('p');
  made.append(...kind(schema));
  return [made];
}

// === what opens ===

function part(id, summary, ...parts) {
  const made = element('details');
  made.id = id;
  const head = element('summary');
  head.append(...summary);
  made.append(head, ...parts);
  return made;
}

function heading(text) {
  return element('h3', text);
}

function line(label, parts) {
  const made = element('p');
  made.append(element('strong', label), ' ', ...parts);
  return made;
}

function contentOf(content, name) {
  return Object.entries(content || {}).flatMap(([type, { schema }]) => {
    const says = element('p');
    says.append(element('code', type), ' ', ...(schema.properties && !schema.allOf ? [] : kind(schema)));
    return schema.properties && !schema.allOf ? [says, members(schema, name)] : [says];
  });
}

function answers(responses, id) {
  const rows = Object.entries(responses).map(([status, { description, headers, content }]) => {
    const codes = content?.['application/problem+json']?.schema.properties.code.enum;
    const what = codes ? kind({ enum: codes }) : Object.entries(content || {}).flatMap(([type, { schema }]) => [element('code', type), ' ', ...kind(schema)]);
    const names = Object.keys(headers || {}).flatMap((name, index) => [...(index > 0 ? [', '] : []), element('code', name)]);
    return row(cell(element('strong', status)), cellOf(codes ? [description.split(':')[0]] : inline(description)), cellOf(what), cellOf(names));
  });
  return table(['Status', 'When', 'What, or which codes', 'Headers'], rows, `Answers of ${id}`);
}

function parametersOf(parameters, id) {
  const rows = parameters.map(({ name, in: place, required, description, schema }) => row(
    cell(element('code', name)), place, required ? 'yes' : 'no', cellOf(kind(schema)), cellOf(inline(description || '')),
  ));
  return table(['Name', 'In', 'Needed', 'What', 'Says'], rows, `Parameters of ${id}`);
}

function who(security) {
  if (security.length === 0) return ['everybody'];
  const named = security.flatMap((one) => Object.keys(one)).map((scheme) => WHO[scheme] || scheme);
  const here = security.some((one) => Object.keys(one).length === 0);
  return [named.join(', ') + (here ? '; on the machine itself without, where that is allowed' : '')];
}

export function operationOf(method, path, operation) {
  const { operationId: id, summary, description, parameters, requestBody, responses, security } = operation;
  const head = [element('span', method.toUpperCase(), `method ${method}`), ' ', element('code', path, 'path'), ' ', element('span', summary, 'says')];
  const made = [...prose(description), line('Lets in', who(security))];
  if (parameters) made.push(heading('Parameters'), parametersOf(parameters, id));
  if (requestBody) made.push(heading('Body'), ...contentOf(requestBody.content, `the body of ${id}`));
  return part(id, head, ...made, heading('Answers'), answers(responses, id));
}

export function webhookOf(name, { summary, parameters, requestBody, responses }) {
  const head = [element('span', 'POST', 'method post'), ' ', element('code', name, 'path'), ' ', element('span', summary, 'says')];
  return part(`webhook-${name}`, head, heading('Headers'), parametersOf(parameters, name), heading('Body'),
    ...contentOf(requestBody.content, `the body of ${name}`), heading('Answers that it takes'), answers(responses, name));
}

export function channelOf(name, channel, asyncapi) {
  const does = Object.values(asyncapi.operations).filter((one) => one.channel.$ref.endsWith(`/${name}`));
  const protocol = channel.servers.map(({ $ref }) => $ref.split('/').at(-1)).join(', ');
  const head = [element('span', protocol, 'method'), ' ', element('code', channel.address, 'path'), ' ', element('span', channel.title, 'says')];
  const rows = does.flatMap(({ action, messages }) => messages.map(({ $ref }) => {
    const { title, summary, contentType, payload } = channel.messages[$ref.split('/').at(-1)];
    const what = payload.schemaFormat ? [`Avro: ${payload.schema.namespace}.${payload.schema.name}`] : kind(payload);
    return row(title, action === 'send' ? 'paylog writes it' : 'paylog reads it', cellOf([element('code', contentType)]), cellOf(what), cellOf(inline(summary || '')));
  }));
  const avro = Object.values(channel.messages).filter(({ payload }) => payload.schemaFormat).map(({ name: message, payload }) => {
    const schema = element('pre', JSON.stringify(payload.schema, null, 2));
    schema.tabIndex = 0;
    return part(`avro-${message}`, [element('code', `${message}.avsc`)], schema);
  });
  return part(`channel-${name}`, head, ...prose(channel.description), table(['Message', 'Who', 'As', 'What', 'Says'], rows, `Messages of ${name}`), ...avro);
}

export function schemaOf(name, schema) {
  return part(`shape-${name}`, [element('code', name, 'path')], ...prose(schema.description), ...shape(schema, name));
}
