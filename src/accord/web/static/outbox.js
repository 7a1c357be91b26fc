// What was said goes into the browser's storage first and leaves it only when the server has answered that it is on
// its disk. A lost connection, a closed laptop or a reload lose nothing; sending twice changes nothing, since
// every entry carries its own id. An entry that the server refuses, or that cannot be read, steps aside: it is kept
// and shown, and what was said after it goes on.
const TIMEOUT = 15000;
const WAITS = [1000, 2000, 4000, 8000, 10000];
const MOST = 20; // entries in one call
const ROOM = 1_000_000; // bytes of them; the longest judgement takes 630,000 and the server's limit is 1 MiB
const TRIES = 3; // of one entry on which the server fails
const REFUSALS = [400, 413, 422, 500]; // of a whole call; one of its entries is to blame

const STAMP = /^\d{15}\.\d{6}$/; // what stands behind a prefix; "ann" is not to send what "ann.b" said

export class Outbox {
  #out;
  #aside;
  #memory = new Map(); // where the browser refuses storage: better than nothing, and the page then warns
  #busy = false;
  #again = false;
  #failures = 0;
  #timer = null;
  #count = 0;
  #most = MOST;

  // csrf: the page's token. have(): ids of the items that the page holds. answer(reply, entries): what to do with a
  // reply. state(name, sentence): "saved", "waiting" or "trouble". aside(list): what stepped aside has changed.
  constructor({ store, person, csrf, have, answer, state, aside }) {
    this.#out = `accord.out.${store}.${person}.`;
    this.#aside = `accord.aside.${store}.${person}.`;
    Object.assign(this, { csrf, have, answer, state, aside });
    addEventListener("online", () => this.send());
    addEventListener("beforeunload", (event) => this.#memory.size && event.preventDefault());
  }

  #keys(prefix = this.#out) {
    const all = [...Object.keys(localStorage), ...this.#memory.keys()];
    return all.filter((key) => key.startsWith(prefix) && STAMP.test(key.slice(prefix.length))).sort();
  }

  #text(key) {
    return this.#memory.get(key) ?? localStorage.getItem(key);
  }

  #keep(key, text) {
    try {
      localStorage.setItem(key, text);
    } catch {
      this.#memory.set(key, text);
    }
  }

  #remove(key) {
    localStorage.removeItem(key);
    this.#memory.delete(key);
  }

  get waiting() {
    return this.#keys().length;
  }

  // Assignments with a judgement that the server has not confirmed yet.
  get unsent() {
    const entries = this.#keys().map((key) => parsed(this.#text(key)));
    return new Set(entries.filter((e) => e?.op === "judgement").map((e) => e.body?.assignment));
  }

  put(entry) {
    const key = `${this.#out}${String(Date.now()).padStart(15, "0")}.${String(this.#count++).padStart(6, "0")}`;
    this.#keep(key, JSON.stringify(entry));
    this.send();
  }

  // What stepped aside: [{problem, entry}], entry undefined where it cannot be read.
  get refused() {
    return this.#keys(this.#aside).map((key) => {
      const { problem, text } = JSON.parse(this.#text(key));
      return { problem, entry: parsed(text) };
    });
  }

  // Try again with everything that stepped aside.
  again() {
    for (const key of this.#keys(this.#aside)) {
      this.#keep(this.#out + key.slice(this.#aside.length), JSON.parse(this.#text(key)).text);
      this.#remove(key);
    }
    this.aside(this.refused);
    this.send();
  }

  // Let go of everything that stepped aside: only when the person says so.
  forget() {
    for (const key of this.#keys(this.#aside)) this.#remove(key);
    this.aside(this.refused);
    this.send();
  }

  #stepAside(key, problem) {
    this.#keep(this.#aside + key.slice(this.#out.length), JSON.stringify({ problem, text: this.#text(key) }));
    this.#remove(key);
    this.aside(this.refused);
  }

  // Send what waits, oldest first; with nothing waiting it is a sign of life that keeps the leases.
  async send() {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    clearTimeout(this.#timer);
    do {
      this.#again = false;
      await this.#once();
    } while (this.#again && this.#failures === 0);
    this.#busy = false;
  }

  // The oldest entries that fit into one call.
  #batch() {
    const keys = [];
    const entries = [];
    let room = ROOM;
    for (const key of this.#keys()) {
      const text = this.#text(key);
      const entry = parsed(text);
      const size = new Blob([text]).size;
      if (entry === undefined || size > ROOM) {
        this.#stepAside(key, entry === undefined ? "it cannot be read any more" : "it is too long");
        continue;
      }
      room -= size;
      if (keys.length && (room < 0 || keys.length >= this.#most)) break;
      keys.push(key);
      entries.push(entry);
    }
    return { keys, entries };
  }

  async #once() {
    const { keys, entries } = this.#batch();
    if (entries.length) this.#waiting();
    let response;
    try {
      response = await fetch("/api/sync", {
        method: "POST",
        headers: { "content-type": "application/json", "x-csrf-token": this.csrf },
        body: JSON.stringify({ entries, have: this.have() }),
        signal: AbortSignal.timeout(TIMEOUT),
      });
    } catch {
      return this.#later();
    }
    if (response.status === 401) return this.state("trouble", "Signed out. Sign in again: what you judged is kept.");
    if (response.status === 403) return this.state("trouble", "Load the page again: what you judged is kept.");
    if (keys.length && REFUSALS.includes(response.status)) return this.#refusal(response, keys);
    if (!response.ok) return this.#later();
    let reply;
    try {
      reply = await response.json();
    } catch {
      return this.#later();
    }
    this.#failures = 0;
    let refusal = null;
    keys.forEach((key, n) => {
      const { status, problem } = reply.results[n];
      if (status !== 200) refusal = problem;
      // An undo that is refused leaves what was said as it is: there is nothing to keep.
      if (status !== 200 && entries[n].op === "judgement") this.#stepAside(key, problem);
      else this.#remove(key);
    });
    const aside = this.#keys(this.#aside).length;
    if (this.waiting) this.#again = true;
    else {
      this.#most = MOST;
      if (aside) this.state("trouble", `Saved, but ${aside} not accepted`);
      else if (refusal) this.state("trouble", `Not accepted: ${refusal}.`);
      else this.state("saved", "Saved");
    }
    this.answer(reply, entries);
  }

  // The call as a whole was refused: its entries go one by one, and the one to blame steps aside.
  async #refusal(response, keys) {
    if (keys.length > 1) {
      this.#most = 1;
      this.#again = true;
      return;
    }
    if (response.status === 500 && this.#failures + 1 < TRIES) return this.#later();
    let problem = `the server refused it (${response.status})`;
    try {
      const text = await response.text();
      problem = parsed(text)?.problem ?? (text.length < 200 ? text : problem);
    } catch {
      // Its number says enough.
    }
    this.#failures = 0;
    this.#stepAside(keys[0], problem);
    this.#again = true;
  }

  #later() {
    const wait = WAITS[Math.min(this.#failures, WAITS.length - 1)];
    this.#failures += 1;
    this.#timer = setTimeout(() => this.send(), wait);
    this.#waiting();
  }

  #waiting() {
    const count = this.waiting;
    if (count) this.state("waiting", `Waiting to save ${count}`);
    else this.state("waiting", "No connection");
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
