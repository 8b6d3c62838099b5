// The versions of the projections on this instance, and how far a rebuild has come.

import { badge, byId, cell, element, row } from './dom.js';

const PHASES = { serving: 'good', verified: 'good', different: 'bad', failed: 'bad' };

export function showVersions(projections) {
  const versions = projections.flatMap((projection) => projection.versions);
  byId('version-rows').replaceChildren(...versions.map(version));
  byId('versions').hidden = versions.length === 0;
}

function version({ version: name, phase, note, folded_offsets: folded, end_offsets: end, offsets_per_second: rate, seconds_left: left }) {
  const isBuilding = phase === 'building' && end !== null;
  const count = folded.toLocaleString() + (isBuilding ? ` of ${end.toLocaleString()}` : '');
  const said = isBuilding && rate !== null ? `${Math.round(rate).toLocaleString()} a second${left === null ? '' : `, ${Math.ceil(left)} s left`}` : note || '';
  const progress = cell(isBuilding ? bar(name, folded, end) : '');
  return row(cell(element('span', name, 'mono')), cell(badge(phase, PHASES[phase] || 'wait')), cell(count, 'number'), progress, said);
}

function bar(name, folded, end) {
  const made = element('progress');
  made.max = Math.max(end, 1);
  made.value = Math.min(folded, made.max);
  made.setAttribute('aria-label', `Rebuild of ${name}`);
  return made;
}
