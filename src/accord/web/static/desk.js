// The page on which people judge: shows an item, takes a verdict, shows the next at once. What is said goes to the
// outbox; what is next was fetched while the person was reading.
import { showAside, wireAside } from "./aside.js";
import { Clock } from "./clock.js";
import { showDifferences } from "./differences.js";
import { keysOn, listen, setKeys } from "./keys.js";
import { Marks } from "./marks.js";
import { Outbox } from "./outbox.js";
import { Ranking } from "./ranking.js";
import { all, one, show, uuid } from "./view.js";

const main = one("#main");
const { csrf, person, ui, store } = main.dataset;
const settings = { strength: Boolean(main.dataset.strength), criteria: Number(main.dataset.criteria) };
const question = one("#question").textContent;
const DEPTH = 10;
const DRAFT = `accord.draft.${store}.${person}.`;
const DRAFT_DAYS = 14;

let current = null; // {item, draft}
let ahead = [];
let history = []; // {event, item, said}, the newest last
let answered = new Set();
let ranking = null;
let paused = false;
let loaded = false;

const clock = new Clock();
const marks = new Marks(() => keepDraft(), (words) => (one("#news-sr").textContent = words));
const outbox = new Outbox({
  store,
  person,
  csrf,
  have: () => [...(current ? [current.item] : []), ...ahead].map((item) => item.assignment),
  answer: replied,
  aside: showAside,
  state: (name, sentence) => {
    const saved = one("#saved");
    saved.dataset.state = name;
    if (saved.textContent !== sentence) saved.textContent = sentence;
    if (!current) nothing();
  },
});

function emptyDraft() {
  return { verdict: null, strength: null, criteria: {}, reason: "", spans: [], ranks: null, milliseconds: 0 };
}

function storedDraft(assignment) {
  try {
    return JSON.parse(localStorage.getItem(DRAFT + assignment));
  } catch {
    return null;
  }
}

function readPage() {
  const { draft, item } = current;
  draft.milliseconds = clock.milliseconds;
  draft.spans = marks.spans;
  const reason = one("#reason");
  if (reason) draft.reason = reason.value;
  draft.strength = Number(one("#strength input:checked")?.value ?? 0) || null;
  draft.criteria = {};
  for (const set of all(".criterion[data-name]")) {
    const chosen = one("input:checked", set);
    if (chosen) draft.criteria[set.dataset.name] = chosen.value;
  }
  if (item.kind === "ranking") draft.ranks = ranking.ranks;
}

function keepDraft() {
  if (!current) return;
  readPage();
  try {
    localStorage.setItem(DRAFT + current.item.assignment, JSON.stringify({ ...current.draft, at: Date.now() }));
  } catch {
    // Storage is full: the judgement itself still reaches the server.
  }
}

function forgetOldDrafts() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith("accord.draft.")) continue;
    const at = storedDraft(key.slice(DRAFT.length))?.at ?? 0;
    if (key.startsWith(DRAFT) && at < Date.now() - DRAFT_DAYS * 864e5) localStorage.removeItem(key);
  }
}

// A page with more than one question is saved with Enter; with one question, the answer saves itself.
const several = () => settings.strength || settings.criteria > 0 || current?.item.kind === "ranking";

function present(item, draft) {
  current = { item, draft: { ...emptyDraft(), ...draft } };
  const root = one("#item");
  show(root, item.html);
  const pair = item.kind === "pair";
  ranking = pair ? null : new Ranking(root, changed);
  for (const element of all(".for-pair")) element.hidden = !pair;
  for (const element of all(".for-ranking")) element.hidden = pair;
  one("#question").textContent = pair ? question : "Put the answers in order, the best first.";
  one("#choices").hidden = !pair;
  one("[data-verdict=both_bad]").hidden = !pair;
  one("#differ").hidden = !pair;
  one("#order").hidden = pair;
  one("#more").hidden = !pair || !(settings.strength || settings.criteria);
  one("#save").hidden = !several();
  one("#verdict").hidden = false;
  one("#news").textContent = item.practice ? "Practice: you will be told what others thought, and why." : "";
  fill();
  marks.attach(root, current.draft.spans);
  differ(false);
  clock.start(current.draft.milliseconds);
  measure();
  window.scrollTo({ top: 0, behavior: "instant" });
  main.focus({ preventScroll: true });
}

// The page's controls as the draft has them.
function fill() {
  const { draft } = current;
  const reason = one("#reason");
  if (reason) {
    reason.value = draft.reason;
    openReason(Boolean(draft.reason), false);
  }
  for (const input of all(".criterion input")) input.checked = false;
  for (const [name, value] of Object.entries(draft.criteria)) {
    const input = one(`.criterion[data-name="${CSS.escape(name)}"] input[value="${CSS.escape(value)}"]`);
    if (input) input.checked = true;
  }
  if (draft.strength && one("#strength")) one(`#strength input[value="${draft.strength}"]`).checked = true;
  if (ranking && draft.ranks) ranking.ranks = draft.ranks;
  chosen();
}

function chosen() {
  const { draft, item } = current;
  for (const button of all("[data-verdict]")) button.setAttribute("aria-pressed", String(button.dataset.verdict === draft.verdict));
  const place = { left: 0, right: 1 }[draft.verdict];
  all(".answer").forEach((answer, n) => answer.classList.toggle("chosen", n === place && item.kind === "pair"));
  const strength = one("#strength");
  if (strength) strength.disabled = place === undefined;
  if (ranking) one("#order").textContent = ranking.words;
}

function changed() {
  chosen();
  keepDraft();
}

function choose(verdict) {
  if (!current) return;
  if (current.item.kind === "ranking" && verdict !== "skip") return;
  current.draft.verdict = verdict;
  chosen();
  if (!several() || verdict === "skip") save();
  else keepDraft();
}

function missing() {
  const { draft, item } = current;
  if (draft.verdict === "skip") return null;
  if (item.kind === "ranking") return ranking.complete ? null : "Give every answer a place first.";
  if (!draft.verdict) return "Choose an answer first.";
  const open = all(".criterion[data-name]").find((set) => !one("input:checked", set));
  return open ? `Answer “${one("legend", open).textContent}” first.` : null;
}

function save() {
  if (!current) return;
  readPage();
  const { item, draft } = current;
  const lack = missing();
  if (lack) {
    one("#news").textContent = lack;
    return;
  }
  const ranked = item.kind === "ranking" && draft.verdict !== "skip";
  const side = draft.verdict === "left" || draft.verdict === "right";
  const body = {
    id: uuid(),
    assignment: item.assignment,
    verdict: ranked ? "ranked" : draft.verdict,
    ranks: ranked ? draft.ranks : null,
    strength: side ? draft.strength : null,
    criteria: draft.verdict === "skip" ? {} : draft.criteria,
    reason: draft.reason,
    spans: draft.spans,
    milliseconds: draft.milliseconds,
    ui,
  };
  answered.add(item.assignment);
  history.push({ event: body.id, item, said: { ...draft } });
  history = history.slice(-DEPTH);
  localStorage.removeItem(DRAFT + item.assignment);
  current = null;
  if (item.practice) holdOn();
  else next();
  outbox.put({ op: "judgement", body });
  counters(1);
}

function next() {
  const item = ahead.shift();
  one("#undo").disabled = history.length === 0;
  if (item) present(item, storedDraft(item.assignment));
  else nothing();
}

// Nothing to show: say why.
function nothing() {
  if (current || one("#lesson").open) return;
  show(one("#item"), "");
  one("#verdict").hidden = history.length === 0;
  one("#choices").hidden = true;
  one("#more").hidden = true;
  one("#save").hidden = true;
  const news = one("#news");
  const { state } = one("#saved").dataset;
  const lost = state === "waiting";
  if (state === "trouble" && outbox.waiting) news.textContent = one("#saved").textContent;
  else if (!loaded) news.textContent = lost ? "No connection. This page goes on by itself when it is back." : "Fetching…";
  else if (lost && outbox.waiting) news.textContent = `No connection. ${outbox.waiting} of your judgements are kept in this browser and are sent when it is back.`;
  else if (lost) news.textContent = "No connection. This page goes on by itself when it is back.";
  else if (paused) news.textContent = "Paused for now. Thank you so far: this page goes on by itself.";
  else news.textContent = "Nothing is left for you to judge. Thank you.";
  if (news.textContent !== "Fetching…") measure();
}

function holdOn() {
  one("#news").textContent = "One moment…";
  one("#verdict").hidden = true;
}

function lesson(result) {
  const words = { left: "A is better", right: "B is better", tie: "a tie", both_bad: "both bad", skip: "skip" };
  one("#lesson-verdict").textContent = result.right
    ? `Yes: ${words[result.expected]}.`
    : `The people who wrote the guidelines say: ${words[result.expected]}.`;
  one("#lesson-note").textContent = result.note;
  const dialog = one("#lesson");
  dialog.showModal();
  dialog.addEventListener("close", () => (current ? null : next()), { once: true });
}

function replied(reply, entries) {
  loaded = true;
  paused = reply.paused;
  const held = new Set(reply.held);
  ahead = ahead.filter((item) => held.has(item.assignment)); // the rest went to somebody else
  const known = new Set([...ahead.map((item) => item.assignment), ...answered, ...outbox.unsent]);
  if (current) known.add(current.item.assignment);
  for (const item of reply.items) if (!known.has(item.assignment)) ahead.push(item);
  const { mine, done, total } = reply.progress;
  one("#mine").textContent = mine + outbox.waiting;
  one("#done").textContent = done.toLocaleString();
  one("#total").textContent = total.toLocaleString();
  one("#bar-done").style.width = `${total ? (100 * done) / total : 0}%`;
  const taught = reply.results.findIndex((result, n) => result.expected && entries[n].op === "judgement");
  if (taught >= 0) lesson(reply.results[taught]);
  else if (!current && !one("#lesson").open) next();
}

function counters(step) {
  one("#mine").textContent = Number(one("#mine").textContent) + step;
}

function undo() {
  const last = history.pop();
  if (!last) return;
  if (current) {
    keepDraft();
    ahead.unshift(current.item);
  }
  answered.delete(last.item.assignment);
  ahead = ahead.filter((item) => item.assignment !== last.item.assignment);
  present(last.item, last.said);
  one("#undo").disabled = history.length === 0;
  outbox.put({ op: "undo", id: uuid(), event: last.event });
  counters(-1);
}

async function remember() {
  try {
    const response = await fetch("/api/recent");
    if (!response.ok || history.length) return;
    history = (await response.json()).reverse();
    one("#undo").disabled = history.length === 0;
    if (!current) nothing();
  } catch {
    // Without it, undo reaches back to the load of this page only.
  }
}

function openReason(open, focus = true) {
  const why = one("#why");
  if (!why) return;
  why.hidden = !open;
  one("#reason-button").setAttribute("aria-expanded", String(open));
  measure();
  if (open && focus) one("#reason").focus();
}

function differ(on) {
  const button = one("#differ");
  button.setAttribute("aria-pressed", String(on));
  if (!showDifferences(one("#item"), on)) {
    button.setAttribute("aria-pressed", "false");
    one("#news").textContent = "The two answers have too little in common to show differences.";
  }
}

// Side by side, a short answer stays in view while a long one scrolls past it.
function measure() {
  const height = one("#verdict").hidden ? 0 : one("#verdict").offsetHeight;
  const flow = height > 0.45 * innerHeight; // a small screen with many questions: they stand below the answers
  document.body.classList.toggle("flow", flow);
  const bar = flow ? 0 : height;
  document.documentElement.style.setProperty("--verdict-height", `${bar}px`);
  main.style.paddingBottom = `${bar + 40}px`;
  for (const answer of all(".answer", one("#item"))) {
    const room = innerHeight - bar - answer.offsetHeight - 16;
    answer.style.setProperty("--stick", `${Math.min(16, room)}px`);
  }
}

function key(event) {
  const letter = event.key.toLowerCase();
  if (event.key === "?") return one("#keys").showModal(), true;
  if (letter === "u") return undo(), true;
  if (!current) return false;
  if (marks.busy && marks.key(event)) return true;
  const pair = current.item.kind === "pair";
  if (event.key === "Enter") return several() ? (save(), true) : false;
  if (letter === "s") return choose("skip"), true;
  if (letter === "m" && marks.enabled) return marks.enter(), true;
  if (letter === "r" && one("#why")) return openReason(true), true;
  if (pair) {
    const verdict = { arrowleft: "left", a: "left", arrowright: "right", b: "right", arrowdown: "tie", t: "tie", x: "both_bad" }[letter];
    if (verdict) return choose(verdict), true;
    if (letter === "d") return differ(one("#differ").getAttribute("aria-pressed") !== "true"), true;
    if (/^[123]$/.test(letter) && settings.strength && !one("#strength").disabled) {
      one(`#strength input[value="${letter}"]`).checked = true;
      return changed(), true;
    }
    return false;
  }
  const answers = all(".answer", one("#item"));
  const focused = answers.findIndex((answer) => answer.classList.contains("current"));
  const place = letter.length === 1 ? letter.charCodeAt(0) - 97 : -1;
  if (place >= 0 && place < answers.length) return go(answers, place), true;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const step = event.key === "ArrowDown" ? 1 : -1;
    return go(answers, Math.min(Math.max(focused + step, 0), answers.length - 1)), true;
  }
  if (/^[1-9]$/.test(letter) && Number(letter) <= answers.length) {
    const target = Math.max(focused, 0);
    ranking.give(target, Number(letter));
    if (focused < 0) go(answers, 0);
    return true;
  }
  return false;
}

function go(answers, place) {
  answers.forEach((answer, n) => answer.classList.toggle("current", n === place));
  answers[place].focus({ preventScroll: true });
  answers[place].scrollIntoView({ block: "nearest" });
}

function wire() {
  const region = document.createElement("p");
  region.id = "news-sr";
  region.className = "sr";
  region.setAttribute("role", "status");
  main.append(region);
  one("#verdict").addEventListener("submit", (event) => event.preventDefault());
  one("#verdict").addEventListener("click", (event) => {
    const verdict = event.target.closest("[data-verdict]")?.dataset.verdict;
    if (verdict) choose(verdict);
  });
  one("#verdict").addEventListener("change", (event) => event.target.matches("input") && changed());
  one("#verdict").addEventListener("input", () => keepDraft());
  one("#undo").addEventListener("click", undo);
  one("#save").addEventListener("click", save);
  one("#differ").addEventListener("click", () => differ(one("#differ").getAttribute("aria-pressed") !== "true"));
  one("#reason-button")?.addEventListener("click", () => openReason(one("#why").hidden));
  one("#show-keys").addEventListener("click", () => one("#keys").showModal());
  one("#show-guidelines").addEventListener("click", () => one("#guidelines").showModal());
  one("#keys-on").checked = keysOn();
  one("#keys-on").addEventListener("change", (event) => setKeys(event.target.checked));
  one("#item").addEventListener("click", async (event) => {
    const button = event.target.closest(".whole");
    if (!button || !current) return;
    const response = await fetch(`/api/whole/${current.item.assignment}/${button.dataset.place}`);
    if (!response.ok) return;
    const box = document.createElement("div");
    box.className = "plain";
    box.dir = "auto";
    box.textContent = await response.text();
    one(".text", button.closest(".answer")).replaceChildren(box);
    button.parentElement.remove();
    measure();
  });
  addEventListener("resize", measure);
  addEventListener("pagehide", () => {
    keepDraft();
    if (!ahead.length) return;
    const form = new FormData(); // items that nobody has looked at go back at once
    form.append("csrf", csrf);
    form.append("held", ahead.map((item) => item.assignment).join(","));
    navigator.sendBeacon("/api/release", form);
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  listen({ key, undo, save });
  setInterval(() => document.hidden || outbox.send(), Number(main.dataset.beat) * 1000);
  document.addEventListener("visibilitychange", () => (document.hidden ? keepDraft() : outbox.send()));
}

wire();
wireAside(outbox);
forgetOldDrafts();
nothing();
outbox.send();
remember();
