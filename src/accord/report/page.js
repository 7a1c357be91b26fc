// Turns each static list of samples into a browser (order, search, more), and offers the figures as a file.
// Only text nodes and attributes are set: nothing from a model is ever parsed as HTML here.
"use strict";

const STEP = 6;
const ORDERS = [["gain", "Largest gain"], ["loss", "Largest loss"], ["random", "Random"]];

function button(label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  return made;
}

function browse(list) {
  const cards = Array.from(list.querySelectorAll(".sample"));
  const bar = document.createElement("div");
  const search = document.createElement("input");
  const count = document.createElement("p");
  const box = document.createElement("div");
  const more = button("Show more");
  const state = { order: "gain", limit: STEP, words: "" };
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

  for (const [order, label] of ORDERS) {
    const choice = button(label);
    choice.setAttribute("aria-pressed", String(order === state.order));
    choice.addEventListener("click", () => {
      state.order = order;
      state.limit = STEP;
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

function offerFigures() {
  const save = button("Save the figures as JSON");
  save.addEventListener("click", () => {
    const text = document.getElementById("figures").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "report.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector("footer").append(save);
}

// A link to a closed round opens it; printing opens the evidence of every round.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const round = target && target.closest("details.round");
  if (round) round.open = true;
}

document.querySelectorAll(".samples").forEach(browse);
offerFigures();
openTarget();
addEventListener("hashchange", openTarget);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details.round").forEach((round) => { round.open = true; });
});
