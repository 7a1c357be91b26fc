// Marking passages as good or bad: with the mouse by selecting, with the keyboard sentence by sentence.
import { all, one } from "./view.js";
import { canHighlight, highlight, offsets, rangeAt, sentences } from "./text.js";

export class Marks {
  spans = [];
  #root = null;
  #toolbar = one("#marker");
  #button = one("#mark");
  #cursor = null; // {place, first, last}: a run of sentences
  #selection = null; // {place, start, end}: from the mouse

  constructor(changed, say) {
    this.changed = changed;
    this.say = say;
    this.enabled = Boolean(this.#button) && canHighlight();
    if (!this.enabled) {
      if (this.#button) this.#button.hidden = true;
      return;
    }
    this.#button.addEventListener("click", () => (this.active ? this.leave() : this.enter()));
    this.#toolbar.addEventListener("mousedown", (event) => event.preventDefault()); // keep the selection
    this.#toolbar.addEventListener("click", (event) => {
      const mark = event.target.closest("[data-mark]")?.dataset.mark;
      if (mark) this.apply(mark);
    });
    document.addEventListener("selectionchange", () => this.#selected());
  }

  // A new item is shown; spans are those of its draft.
  attach(root, spans) {
    this.#root = root;
    this.spans = spans;
    this.leave();
    this.#draw();
  }

  get active() {
    return this.#cursor !== null;
  }

  get busy() {
    return this.active || this.#selection !== null;
  }

  #texts() {
    return all(".answer .text", this.#root);
  }

  #selected() {
    if (this.active || !this.#root) return;
    const selection = getSelection();
    this.#selection = null;
    if (selection.rangeCount && !selection.isCollapsed) {
      const range = selection.getRangeAt(0);
      const place = this.#texts().findIndex((text) => text.contains(range.commonAncestorContainer));
      if (place >= 0) {
        const [start, end] = offsets(this.#texts()[place], range);
        if (end > start && end - start <= 2000) this.#selection = { place, start, end };
      }
    }
    this.#toolbar.hidden = !this.busy;
  }

  enter() {
    const lists = this.#texts().map((text) => sentences(text.textContent));
    const place = lists.findIndex((list) => list.length);
    if (place < 0) return;
    this.#cursor = { place, first: 0, last: 0, lists };
    this.#button.setAttribute("aria-pressed", "true");
    this.#toolbar.hidden = false;
    this.#draw();
    this.#read();
  }

  leave() {
    this.#cursor = null;
    this.#selection = null;
    if (!this.enabled) return;
    this.#button.setAttribute("aria-pressed", "false");
    this.#toolbar.hidden = true;
    this.#draw();
  }

  // Keys while marking. Returns whether the key was used.
  key(event) {
    const letter = event.key.toLowerCase();
    const mark = { g: "good", b: "bad", 0: "none" }[letter];
    if (mark) {
      this.apply(mark);
      return true;
    }
    if (event.key === "Escape" || (letter === "m" && this.active)) {
      getSelection().removeAllRanges();
      this.leave();
      return true;
    }
    if (!this.active) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#move(step, event.shiftKey);
    const side = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (side) this.#turn(side);
    return Boolean(step || side);
  }

  #move(step, longer) {
    const cursor = this.#cursor;
    const list = cursor.lists[cursor.place];
    cursor.last = Math.min(Math.max(cursor.last + step, 0), list.length - 1);
    if (!longer) cursor.first = cursor.last;
    this.#draw();
    this.#read();
  }

  #turn(side) {
    const cursor = this.#cursor;
    const next = cursor.place + side;
    if (!cursor.lists[next]?.length) return;
    cursor.place = next;
    cursor.first = cursor.last = Math.min(cursor.last, cursor.lists[next].length - 1);
    this.#draw();
    this.#read();
  }

  #held() {
    if (!this.active) return this.#selection;
    const { place, first, last, lists } = this.#cursor;
    const [low, high] = [Math.min(first, last), Math.max(first, last)];
    return { place, start: lists[place][low][0], end: lists[place][high][1] };
  }

  #read() {
    const { place, start, end } = this.#held();
    const text = this.#texts()[place];
    this.say(`${"ABCDEFGHIJKLMNOPQRST"[place]}: ${text.textContent.slice(start, Math.min(end, start + 200))}`);
    rangeAt(text, start, end).startContainer.parentElement?.scrollIntoView({ block: "nearest" });
  }

  apply(mark) {
    const held = this.#held();
    if (!held) return;
    const { place, start, end } = held;
    const rest = this.spans.filter((span) => span.place !== place || span.end <= start || span.start >= end);
    const quote = this.#texts()[place].textContent.slice(start, end).slice(0, 2000);
    if (mark !== "none" && rest.length < 50) rest.push({ place, start, end: start + quote.length, quote, mark });
    this.spans = rest;
    this.say(mark === "none" ? "No mark" : `Marked ${mark}`);
    if (!this.active) {
      getSelection().removeAllRanges();
      this.leave();
    }
    this.#draw();
    this.changed();
  }

  #draw() {
    if (!this.enabled || !this.#root) return;
    const texts = this.#texts();
    for (const mark of ["good", "bad"]) {
      const mine = this.spans.filter((span) => span.mark === mark && texts[span.place]);
      highlight(`accord-${mark}`, mine.map((span) => rangeAt(texts[span.place], span.start, span.end)));
    }
    const held = this.active ? this.#held() : null;
    highlight("accord-cursor", held ? [rangeAt(texts[held.place], held.start, held.end)] : []);
    const count = this.spans.length;
    this.#button.lastChild.textContent = count ? `Mark (${count})` : "Mark";
  }
}
