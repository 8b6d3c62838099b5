// The little of Markdown that descriptions have: paragraphs, `code` and **strong**. Into elements, never into markup.

import { element } from './dom.js';

const MARKED = /(`[^`]+`|\*\*[^*]+\*\*)/;

export function inline(text) {
  return text.split(MARKED).filter(Boolean).map((piece) => {
    if (piece.startsWith('`')) return element('code', piece.slice(1, -1));
    if (piece.startsWith('**')) return element('strong', piece.slice(2, -2));
    return piece;
  });
}

export function prose(text) {
  return (text || '').split(/\n\s*\n/).filter(Boolean).map((paragraph) => {
    const made = element('p', undefined, 'note');
    made.append(...inline(paragraph.replace(/\s+/g, ' ')));
    return made;
  });
}
