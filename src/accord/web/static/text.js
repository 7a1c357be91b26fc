// Places in the text of an answer, as it is shown: offsets into textContent, and the DOM ranges that they stand for.
export function rangeAt(root, start, end) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let place = 0;
  let begun = false;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const next = place + node.data.length;
    if (!begun && start < next) {
      range.setStart(node, start - place);
      begun = true;
    }
    if (begun && end <= next) {
      range.setEnd(node, end - place);
      return range;
    }
    place = next;
  }
  if (begun) range.setEnd(root, root.childNodes.length);
  return range;
}

// [start, end) of a DOM range that lies inside root.
export function offsets(root, range) {
  const before = document.createRange();
  before.selectNodeContents(root);
  before.setEnd(range.startContainer, range.startOffset);
  const start = before.toString().length;
  return [start, start + range.toString().length];
}

export function sentences(text) {
  const found = [];
  const segments = Intl.Segmenter
    ? [...new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text)].map((s) => [s.index, s.segment])
    : [...text.matchAll(/[^.!?\n]+[.!?]*\s*/g)].map((m) => [m.index, m[0]]);
  for (const [index, segment] of segments) {
    const lead = segment.length - segment.trimStart().length;
    const length = segment.trim().length;
    if (length) found.push([index + lead, index + lead + length]);
  }
  return found;
}

export const canHighlight = () => "highlights" in CSS;

export function highlight(name, ranges) {
  if (!canHighlight()) return;
  if (ranges.length) CSS.highlights.set(name, new Highlight(...ranges));
  else CSS.highlights.delete(name);
}
