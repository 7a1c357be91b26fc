// Places for three answers or more, by number keys or by the buttons; equal numbers are ties. What will be saved is
// written out in words before it is.
import { all } from "./view.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRST";

export class Ranking {
  constructor(root, changed) {
    this.sets = all(".ranks", root);
    for (const set of this.sets) set.addEventListener("change", changed);
  }

  get ranks() {
    return this.sets.map((set) => Number(set.querySelector("input:checked")?.value ?? 0));
  }

  set ranks(values) {
    this.sets.forEach((set, place) => {
      for (const input of all("input", set)) input.checked = Number(input.value) === values[place];
    });
  }

  give(place, rank) {
    const input = all("input", this.sets[place])[rank - 1];
    if (input) {
      input.checked = true;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
  }

  get complete() {
    return this.ranks.every((rank) => rank > 0);
  }

  // "1. B · 2. A and C"
  get words() {
    const ranks = this.ranks;
    const used = [...new Set(ranks.filter((rank) => rank > 0))].sort((a, b) => a - b);
    const line = used.map((rank, n) => `${n + 1}. ${ranks.flatMap((r, i) => (r === rank ? [LETTERS[i]] : [])).join(" and ")}`);
    const open = ranks.flatMap((rank, i) => (rank ? [] : [LETTERS[i]]));
    if (open.length) line.push(`still to place: ${open.join(", ")}`);
    return line.join(" · ");
  }
}
