// Sliders and what they draw. Every position of every slider was computed beforehand, for every seed: nothing is
// interpolated here, and nothing is estimated. Only text nodes and attributes are set.
"use strict";

const DATA = JSON.parse(document.getElementById("figures").textContent);
const { levels, usual } = DATA;
const D = levels.distance;
const END = D.length - 1;
const T95 = DATA.t_quantile; // of Student's t for the number of seeds
const percent = (v) => `${(100 * v).toFixed(0)}%`;
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const unpack = (values) => values.map((v) => v / DATA.scale);

function interval(values) {
  const m = mean(values);
  const variance = values.reduce((a, b) => a + (b - m) ** 2, 0) / (values.length - 1);
  const half = T95 * Math.sqrt(variance / values.length);
  return { mean: m, low: m - half, high: m + half };
}

// A curve of the grid: proxy and length averaged over seeds, gold of each seed and its mean with a band.
function curve(packed) {
  const seeds = packed.gold.map(unpack);
  const band = D.map((_, i) => interval(seeds.map((one) => one[i])));
  return {
    proxy: unpack(packed.proxy),
    length: unpack(packed.length),
    seeds,
    gold: band.map((b) => b.mean),
    low: band.map((b) => b.low),
    high: band.map((b) => b.high),
  };
}

const gridCurve = (s) => curve(DATA.grid[[s.pairs, s.noise, s.misspecification, s.members].join("|")]);
const variantCurve = (s, shared) => curve(DATA.variants[[s.pairs, s.members, shared, s.aggregation].join("|")]);
const highest = (values) => values.indexOf(Math.max(...values));

// ---- what can be said of a slider's position -------------------------------------------------------------------

const SHOWN = {
  pairs: (v) => `${v.toLocaleString("en")} pairs`,
  noise: (v) => `${percent(DATA.label_accuracy[v])} of labels right`,
  misspecification: (v) => (v === 0 ? "nothing" : v === 1 ? "everything" : percent(v)),
  members: (v) => String(v),
  distance: (v) => `KL ${show(v * v, v * v < 1 ? 2 : 1)} nats`,
  seed: (v) => `seed ${v}`,
};

// ---- figures: each takes the section's state and its <svg> elements --------------------------------------------

const RANGE = DATA.ranges;
const SIZE = (svg) => {
  const width = Math.max(280, Math.min(560, Math.round(svg.parentElement.clientWidth)));
  return { width, height: Math.round(width * (width < 400 ? 0.8 : 0.68)) };
};
const PRESSURE = { x: [0, D[END]], xLabel: "√KL: how hard the policy was pushed" };

function lines(svg, spec) {
  drawLines(svg, { size: SIZE(svg), ...PRESSURE, y: RANGE.gold, zero: true, legend: true, yLabel: "deviations above the start", ...spec });
}

function proxyAndGold(svg, c, here, title, hereName) {
  lines(svg, {
    title,
    description: `At KL ${show(D[here] ** 2)} the proxy is ${show(c.proxy[here])} and gold ${show(c.gold[here])}; gold is highest at KL ${show(D[highest(c.gold)] ** 2)}.`,
    y: [Math.min(RANGE.gold[0], ...c.low), Math.max(...c.proxy) * 1.04],
    here: D[here],
    hereName,
    series: [
      { name: "proxy", style: "proxy", x: D, y: c.proxy, at: here, marker: "circle" },
      { name: "gold, mean of seeds", style: "gold", x: D, y: c.gold, low: c.low, high: c.high, at: here, marker: "diamond", dashed: true },
    ],
  });
}

const dots = (xs, ys) => xs.map((x, i) => [x / DATA.scale, ys[i] / DATA.scale]);

const DRAW = {
  world([svg]) {
    const w = DATA.world;
    drawCloud(svg, {
      size: SIZE(svg), title: "How good each answer is, by its length", description: "Gold is highest at a middling length.",
      x: [-3.2, 3.2], y: RANGE.cloud_gold, xLabel: "length, in deviations from the mean", yLabel: "gold: how good it truly is",
      points: dots(w.length, w.gold), series: [{ style: "gold", x: w.bins, y: w.truth }],
    });
  },
  learn([svg], s, say) {
    const key = `${s.pairs}|${s.noise}`;
    const accuracy = interval(DATA.accuracies[key]);
    drawCloud(svg, {
      size: SIZE(svg), title: "What the reward model thinks, and the truth", description: `Accuracy ${percent(accuracy.mean)}.`,
      x: RANGE.learn, y: RANGE.cloud_gold, xLabel: "proxy: what the reward model thinks", yLabel: "gold: how good it truly is",
      points: dots(DATA.learn[key], DATA.learn.gold), series: [{ style: "reference", dashed: true, x: [-3, 2.2], y: [-3, 2.2] }],
    });
    say(`Of two answers the reward model picks the better one ${percent(accuracy.mean)} of the time (95% interval over seeds ${percent(accuracy.low)} to ${percent(accuracy.high)}).`);
  },
  push([cloud, graph], s, say) {
    const here = D.indexOf(s.distance);
    const moved = DATA.push[s.pairs];
    drawCloud(cloud, {
      size: SIZE(cloud), title: `Answers of the pushed policy, seed ${DATA.typical_seed}`, description: "Each dot is an answer that the policy gives; grey dots are the start's.",
      x: RANGE.cloud_proxy, y: RANGE.cloud_gold, xLabel: "proxy: what it is optimised for", yLabel: "gold: how good it truly is",
      points: dots(moved.x[0], moved.y[0]), over: dots(moved.x[here], moved.y[here]),
      levels: [{ y: mean(unpack(moved.y[here])), style: "gold", name: "mean gold" }, { x: mean(unpack(moved.x[here])), style: "proxy", name: "mean proxy" }],
    });
    const c = gridCurve({ ...s, noise: usual.noise, misspecification: 1, members: 1 });
    proxyAndGold(graph, c, here, "Mean of all seeds, as curves");
    const kl = D[here] ** 2;
    say(`At KL ${show(kl, 1)} the policy has narrowed ${DATA.responses.toLocaleString("en")} answers down to about as many as ${Math.round(DATA.responses * Math.exp(-kl)).toLocaleString("en")} equal ones. Proxy ${show(c.proxy[here])}, gold ${show(c.gold[here])}, length ${show(c.length[here])} deviations from the start.`);
  },
  blind([belief, graph], s, say) {
    const w = DATA.world;
    const seen = DATA.beliefs[`${s.pairs}|${s.misspecification}`].map(unpack);
    drawLines(belief, {
      size: SIZE(belief), title: "What length is worth", description: "Mean gold, and mean proxy of each seed, of answers of one length.",
      x: [-2.6, 2.6], y: RANGE.belief, xLabel: "length, in deviations from the mean", yLabel: "mean score of answers of that length", zero: true, legend: true,
      series: [
        ...seen.map((one, i) => ({ name: i ? "" : "proxy, each seed", style: "proxy", thin: true, x: w.bins, y: one })),
        { name: "gold", style: "gold", x: w.bins, y: w.truth, dashed: true },
      ],
    });
    const c = gridCurve({ ...s, noise: usual.noise, members: 1 });
    proxyAndGold(graph, c, highest(c.gold), "Proxy and gold as the policy is pushed", "gold is highest");
    say(fallSentence(c));
  },
  variance([graph, peaks], s, say) {
    const c = gridCurve({ ...s, noise: usual.noise, misspecification: 1, members: 1 });
    lines(graph, {
      title: "Gold, one line for each seed", description: fallSentence(c), y: RANGE.one_blind,
      series: c.seeds.map((one, i) => ({ name: i ? "" : "gold, each seed; the mark is its peak", style: "gold", thin: true, x: D, y: one, at: highest(one), marker: "diamond" })),
    });
    const best = levels.pairs.map((pairs) => {
      const found = gridCurve({ pairs, noise: usual.noise, misspecification: 1, members: 1 }).seeds.map((one) => Math.max(...one));
      return { all: found, ...interval(found) };
    });
    const place = levels.pairs.map((_, i) => i);
    drawLines(peaks, {
      size: SIZE(peaks), title: "The best gold that was reached, by number of pairs", description: "Mean of the seeds with a 95% interval.",
      x: [-0.4, place.length - 0.6], y: [0, Math.max(...best.flatMap((b) => b.all)) * 1.05], xTicks: place, xNames: levels.pairs.map(String),
      xLabel: "pairs compared", yLabel: "gold at each seed's own peak", here: levels.pairs.indexOf(s.pairs),
      series: [
        { style: "reference", dots: true, marker: "circle", x: best.flatMap((b, i) => b.all.map(() => i)), y: best.flatMap((b) => b.all) },
        { style: "gold", whiskers: true, marker: "diamond", x: place.map((i) => i + 0.15), y: best.map((b) => b.mean), low: best.map((b) => b.low), high: best.map((b) => b.high) },
      ],
    });
    const spots = c.seeds.map((one) => D[highest(one)] ** 2);
    say(`The peaks lie at KLs from ${show(Math.min(...spots), 1)} to ${show(Math.max(...spots), 1)} nats; ${c.seeds.filter((one) => one[END] < Math.max(...one) - 0.05).length} of ${c.seeds.length} seeds fall by more than 0.05.`);
  },
  ensemble([graph, apart], s, say) {
    const one = gridCurve({ ...s, noise: usual.noise, misspecification: 1, members: 1 });
    const [own, shared, taste] = ["labels", "pretraining", "taste"].map((what) => variantCurve(s, what));
    const kinds = [
      { name: "single", style: "reference", dashed: true, marker: "circle", c: one },
      { name: "own runs", style: "gold", marker: "diamond", c: own },
      { name: "one run", style: "policy", dashed: true, marker: "square", c: shared },
      { name: "one taste", style: "bad", dashed: true, marker: "circle", c: taste },
    ];
    lines(graph, {
      title: "Gold as the policy is pushed", description: "A single reward model, and ensembles by what their members share.", y: RANGE.ensemble,
      series: kinds.map(({ c, ...kind }) => ({ ...kind, x: D, y: c.gold, low: kind.name === "own runs" ? c.low : undefined, high: c.high, at: highest(c.gold) })),
    });
    const ends = kinds.map(({ c }) => interval(c.seeds.map((gold) => gold[END])));
    const place = kinds.map((_, i) => i);
    drawLines(apart, {
      size: SIZE(apart), title: "Gold at the end, each seed and the mean", description: "With 95% intervals.",
      x: [-0.5, 3.5], y: RANGE.ensemble_seeds, xTicks: place, xNames: kinds.map((kind) => kind.name), xLabel: "what the reward models share", yLabel: "gold at the end", zero: true,
      series: [
        { style: "reference", dots: true, marker: "circle", x: kinds.flatMap(({ c }, i) => c.seeds.map(() => i - 0.12)), y: kinds.flatMap(({ c }) => c.seeds.map((gold) => gold[END])) },
        { style: "gold", whiskers: true, dots: true, marker: "diamond", x: place.map((i) => i + 0.12), y: ends.map((e) => e.mean), low: ends.map((e) => e.low), high: ends.map((e) => e.high) },
      ],
    });
    say(`At the end gold is ${show(ends[0].mean)} with one reward model; with ${s.members}: ${show(ends[1].mean)} where each has a pretraining run of its own, ${show(ends[2].mean)} where all share one run, ${show(ends[3].mean)} where annotators share a taste for length.`);
  },
};
