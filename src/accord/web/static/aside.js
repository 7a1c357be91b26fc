// What the server did not accept: shown with its reason, kept until the person lets it go.
import { one } from "./view.js";

const WORDS = { left: "A is better", right: "B is better", tie: "Tie", both_bad: "Both bad", skip: "Skip", ranked: "A ranking" };

export function showAside(list) {
  const box = one("#aside");
  box.hidden = list.length === 0;
  one("summary", box).textContent = list.length === 1 ? "1 judgement was not accepted" : `${list.length} judgements were not accepted`;
  one("ul", box).replaceChildren(
    ...list.map(({ problem, entry }) => {
      const row = document.createElement("li");
      const said = document.createElement("span");
      said.dir = "auto";
      said.textContent = [WORDS[entry?.body?.verdict] ?? "A judgement", entry?.body?.reason].filter(Boolean).join(": ");
      const why = document.createElement("span");
      why.className = "soft";
      why.textContent = ` (${problem})`;
      row.append(said, why);
      return row;
    }),
  );
}

export function wireAside(outbox) {
  one("#aside-again").addEventListener("click", () => outbox.again());
  one("#aside-forget").addEventListener("click", () => outbox.forget());
  showAside(outbox.refused);
}
