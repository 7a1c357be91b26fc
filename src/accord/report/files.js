// Offers the figures inside the page as files. No request is made: the data are in the page.
"use strict";

function button(label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  return made;
}

function offer(label, name, kind, read) {
  const save = button(label);
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([read()], { type: kind }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector("footer").append(save);
}

function offerFigures() {
  const text = (id) => document.getElementById(id).textContent;
  offer("Save the figures as JSON", "report.json", "application/json", () => text("figures"));
  offer("Save the figures as CSV", "report.csv", "text/csv", () => JSON.parse(text("table")));
}

offerFigures();
