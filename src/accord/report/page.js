// Turns each static list of samples into a browser (order, search, more), and keeps a live page live.
// Only text nodes and attributes are set: nothing from a model is ever parsed as HTML here.

const STEP = 6;
const ORDERS = [
  ["gain", "Largest gain"], ["loss", "Largest loss"], ["dispute", "Largest disagreement"], ["random", "Random"],
];
const KEPT = "accord sample order"; // what a live page keeps over a reload

function browse(list) {
  const cards = Array.from(list.querySelectorAll(".sample"));
  const bar = document.createElement("div");
  const search = document.createElement("input");
  const count = document.createElement("p");
  const box = document.createElement("div");
  const more = button("Show more");
  const orders = ORDERS.filter(([order]) => order !== "dispute" || list.dataset.disputed === "true");
  const kept = recall(KEPT + list.dataset.round);
  const state = { order: orders.some(([order]) => order === kept) ? kept : "gain", limit: STEP, words: "" };
  bar.className = "toolbar";
  count.className = "small";
  count.setAttribute("aria-live", "polite");
  more.className = "show-more";
  search.type = "search";
  search.placeholder = "Search the samples";
  search.setAttribute("aria-label", "Search the samples");

  function draw() {
    const found = cards.filter((card) => card.textContent.toLowerCase().includes(state.words));
    found.sort((one, other) => Number(one.dataset[state.order]) - Number(other.dataset[state.order]));
    const shown = found.slice(0, state.limit);
    box.replaceChildren(...shown);
    count.textContent = `${shown.length} of ${found.length} shown`;
    more.hidden = shown.length === found.length;
  }

  for (const [order, label] of orders) {
    const choice = button(label);
    choice.setAttribute("aria-pressed", String(order === state.order));
    choice.addEventListener("click", () => {
      state.order = order;
      state.limit = STEP;
      remember(KEPT + list.dataset.round, order);
      for (const other of bar.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === choice));
      }
      draw();
    });
    bar.append(choice);
  }
  search.addEventListener("input", () => {
    state.words = search.value.toLowerCase();
    state.limit = STEP;
    draw();
  });
  more.addEventListener("click", () => {
    state.limit += STEP;
    draw();
  });
  bar.append(search);
  list.replaceChildren(bar, count, box, more);
  draw();
}

// Private windows and some file: pages have no storage: then nothing is kept, and nothing breaks.
function remember(key, value) {
  try { sessionStorage.setItem(key, value); } catch { /* see above */ }
}

function recall(key) {
  try { return sessionStorage.getItem(key); } catch { return null; }
}

// A live page reloads itself, but not under the hands of someone who reads a table, types or marks text.
function keepLive() {
  const seconds = Number(document.body.dataset.reload);
  if (!seconds) return;
  setInterval(() => {
    const busy = document.hidden || document.activeElement instanceof HTMLInputElement
      || String(getSelection()) !== "" || document.querySelector("details.numbers[open] summary:focus");
    if (!busy) location.reload();
  }, seconds * 1000);
}

// A link to a closed round opens it; printing opens the evidence of every round.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const round = target && target.closest("details.round");
  if (round) round.open = true;
}

document.querySelectorAll(".samples").forEach(browse);
keepLive();
openTarget();
addEventListener("hashchange", openTarget);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details.round").forEach((round) => { round.open = true; });
});
