// Words that one answer has and the other has not at that place: Myers' O(ND) comparison (1986) of the two lists of
// words, shown with the CSS Custom Highlight API, so that nothing in the page is moved.
import { all } from "./view.js";
import { highlight, rangeAt } from "./text.js";

const MOST = 2000; // differing words beyond which the texts are simply different

function words(text) {
  return [...text.matchAll(/[\p{L}\p{N}_'’]+|[^\s\p{L}\p{N}_]/gu)].map((m) => [m[0].toLowerCase(), m.index, m.index + m[0].length]);
}

// For each word of a and of b, whether it is in both at the same place; null where they differ in more than MOST words.
export function common(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const inA = a.map((_, i) => i < head || i >= a.length - tail);
  const inB = b.map((_, i) => i < head || i >= b.length - tail);
  const [n, m] = [a.length - head - tail, b.length - head - tail];
  const trace = [];
  let furthest = new Map([[1, 0]]);
  for (let d = 0; d <= Math.min(n + m, MOST); d += 1) {
    trace.push(new Map(furthest));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest.get(k - 1) < furthest.get(k + 1));
      let x = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
      while (x < n && x - k < m && a[head + x] === b[head + x - k]) x += 1;
      furthest.set(k, x);
      if (x < n || x - k < m) continue;
      let [i, j] = [n, m];
      for (let back = d; back >= 0; back -= 1) {
        const seen = trace[back];
        const diagonal = i - j;
        const came = diagonal === -back || (diagonal !== back && seen.get(diagonal - 1) < seen.get(diagonal + 1));
        const previous = came ? diagonal + 1 : diagonal - 1;
        const px = back === 0 ? 0 : seen.get(previous);
        const py = back === 0 ? 0 : px - previous;
        while (i > px && j > py && i > 0 && j > 0 && a[head + i - 1] === b[head + j - 1]) {
          i -= 1;
          j -= 1;
          inA[head + i] = true;
          inB[head + j] = true;
        }
        [i, j] = [px, py];
      }
      return [inA, inB];
    }
  }
  return null;
}

// Show or hide the differences of the two answers in root. Returns false where nearly everything differs.
export function showDifferences(root, on) {
  const texts = all(".answer .text", root);
  if (!on || texts.length !== 2) {
    highlight("accord-differ", []);
    return true;
  }
  const lists = texts.map((text) => words(text.textContent));
  const found = common(lists[0].map((w) => w[0]), lists[1].map((w) => w[0]));
  if (!found) {
    highlight("accord-differ", []);
    return false;
  }
  const ranges = texts.flatMap((text, side) => {
    const out = [];
    let run = null;
    lists[side].forEach(([, start, end], i) => {
      if (found[side][i]) run = null;
      else if (run) run[1] = end;
      else out.push((run = [start, end]));
    });
    return out.map(([start, end]) => rangeAt(text, start, end));
  });
  highlight("accord-differ", ranges);
  return true;
}
