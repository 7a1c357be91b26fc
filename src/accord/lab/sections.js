
// ---- the later figures, and how sliders are wired ----------------------------------------------------------------

function fallSentence(c) {
  const top = highest(c.gold);
  const falls = c.gold[top] - c.gold[END];
  if (top === END) return `Mean gold rises to the end: ${show(c.gold[END])} deviations above the start.`;
  return `Mean gold is highest, ${show(c.gold[top])}, at KL ${show(D[top] ** 2, 1)}, and ${show(falls)} lower at the end.`;
}

Object.assign(DRAW, {
  rounds([known, gold], s, say) {
    const arms = DATA.rounds;
    const place = arms.labels.map((_, i) => i);
    const drawn = (svg, quantity, title, yLabel, y) => {
      const series = [["fresh labels", "fresh", "policy", "square"], ["as many old ones", "control", "reference", "circle"]].map(([name, arm, style, shape]) => {
        const spread = place.map((i) => interval(arms[arm].map((one) => one[quantity][i] / DATA.scale)));
        return { name, style, marker: shape, whiskers: true, dashed: arm === "control", x: place.map((i) => i + (arm === "fresh" ? -0.05 : 0.05)), y: spread.map((b) => b.mean), low: spread.map((b) => b.low), high: spread.map((b) => b.high) };
      });
      drawLines(svg, {
        size: SIZE(svg), title, description: "Mean over seeds with 95% intervals, by number of labels.", legend: true,
        x: [-0.3, place.length - 0.7], y, xTicks: place, xNames: arms.labels.map(String), xLabel: "labels in all", yLabel, series,
      });
    };
    drawn(known, "on_policy", "Does the reward model know what the policy says?", "accuracy on the policy's own answers", RANGE.accuracy);
    drawn(gold, "gold", "And is the next policy better?", "gold at the same KL", RANGE.round_gold);
    const at = (arm) => interval(arms[arm].map((one) => one.on_policy[1] / DATA.scale)).mean;
    say(`After one more round of ${arms.labels[0]} new labels: ${percent(at("fresh"))} right with fresh ones, ${percent(at("control"))} with as many more of the old ones.`);
  },
  forecast([svg], s, say) {
    const made = DATA.forecasts[s.pairs][s.seed];
    const gold = gridCurve({ ...s, noise: usual.noise, misspecification: 1, members: 1 }).seeds[s.seed];
    const cut = made.seen;
    const guess = unpack(made.predicted);
    lines(svg, {
      title: "A curve fitted to the first 60%, and what came after", description: `The error on the rest is ${show(made.form_error)}.`,
      y: [Math.min(0, ...gold, ...guess) - 0.1, Math.max(...gold, ...guess) + 0.1], here: D[cut - 1], hereName: "fitted | predicted",
      series: [
        { name: "gold", style: "gold", x: D, y: gold, marker: "diamond", dots: true },
        { name: "fitted, then predicted", style: "policy", x: D, y: guess, dashed: true },
      ],
    });
    say(`On the part that it has not seen the fitted curve is off by ${show(made.form_error)}, a straight line by ${show(made.line_error)}, "it stays as it is" by ${show(made.constant_error)}.`);
  },
  stops([svg], s, say) {
    const rules = DATA.stops.rules;
    const rows = rules.map((rule, i) => ({ rule, place: rules.length - 1 - i, ...interval(DATA.stops.regret[rule].map((v) => v / DATA.scale)) }));
    const size = SIZE(svg);
    drawDots(svg, { size, title: "Gold lost by stopping where each rule says", description: rows.map((r) => `${r.rule} ${show(r.mean, 3)}`).join(", "), x: [0, Math.max(...rows.map((r) => r.high)) * 1.08], xLabel: "gold lost against the best checkpoint", rows });
    const best = rows.slice().sort((a, b) => a.mean - b.mean)[0];
    say(`The ${best.rule} loses least: ${show(best.mean, 3)} deviations of gold. ${DATA.stops.equal_labels}`);
  },
  play([graph, lengths], s, say) {
    const here = D.indexOf(s.distance);
    const c = gridCurve(s);
    proxyAndGold(graph, c, here, "Proxy and gold");
    lines(lengths, {
      title: "Gold of each seed, and the length of answers", description: "Thin lines are seeds.", y: RANGE.seeds, here: D[here],
      series: [
        ...c.seeds.map((one, i) => ({ name: i ? "" : "gold, each seed", style: "gold", thin: true, x: D, y: one })),
        { name: "length", style: "reference", dashed: true, x: D, y: c.length, at: here, marker: "square" },
      ],
    });
    say(`Here: proxy ${show(c.proxy[here])}, gold ${show(c.gold[here])} (95% interval ${show(c.low[here])} to ${show(c.high[here])}), length ${show(c.length[here])}. ${fallSentence(c)}`);
  },
});

function sliderLevels(name) {
  return name === "seed" ? DATA.seeds : levels[name];
}

function wire(section) {
  const draw = DRAW[section.dataset.draw];
  const svgs = [...section.querySelectorAll("svg.live")];
  const said = section.querySelector(".said");
  const state = { noise: usual.noise, pairs: usual.pairs, misspecification: 1, members: 1, distance: D[END], aggregation: "mean" };
  const say = (sentence) => { said.textContent = sentence; };
  const redraw = () => draw(svgs, state, say);
  for (const input of section.querySelectorAll("input[type=range]")) {
    const name = input.dataset.level;
    const every = sliderLevels(name);
    const read = () => {
      const value = every[Number(input.value)];
      state[name] = name === "seed" ? Number(input.value) : value;
      const words = SHOWN[name](value);
      input.parentElement.querySelector("output").textContent = words;
      input.setAttribute("aria-valuetext", words);
    };
    input.addEventListener("input", () => { read(); redraw(); });
    read();
  }
  for (const input of section.querySelectorAll("input[type=radio]")) {
    const read = () => { if (input.checked) state[input.dataset.choice] = input.value; };
    input.addEventListener("change", () => { read(); redraw(); });
    read();
  }
  redraw();
  return redraw;
}

const redraws = [...document.querySelectorAll("section[data-draw]")].map(wire);
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => redraws.forEach((redraw) => redraw()));
});

function offer(label, name, type, text) {
  const save = document.createElement("button");
  save.type = "button";
  save.textContent = label;
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector("footer .save").append(save);
}
offer("Save the page's figures as JSON", "lab-page.json", "application/json", () => document.getElementById("figures").textContent);
