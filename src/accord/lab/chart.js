// Draws lines, bands, dots and intervals into an <svg>, with the classes of the report's own charts, so that one
// style sheet serves both. Pixels are those of the viewBox. Deliberately not a plotting library.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

// A number for people: three significant digits, a true minus sign.
function show(value, digits = 2) {
  const text = value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1");
  return text.replace("-", "−");
}

function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

function frame(spec) {
  const { width, height } = spec.size;
  const edge = { left: 44, right: 14, top: spec.series && spec.legend ? 46 : 30, bottom: 42 };
  const [x0, x1] = spec.x;
  const [y0, y1] = spec.y;
  return {
    edge,
    width,
    height,
    x: (v) => edge.left + ((v - x0) / (x1 - x0)) * (width - edge.left - edge.right),
    y: (v) => height - edge.bottom - ((v - y0) / (y1 - y0)) * (height - edge.top - edge.bottom),
  };
}

function axes(svg, at, spec) {
  const { edge, width, height } = at;
  const digits = (values) => (values.every((v) => Number.isInteger(v)) ? 0 : 1);
  const yTicks = spec.yTicks || ticks(...spec.y, 5);
  for (const value of yTicks) {
    svg.append(make("line", { x1: edge.left, x2: width - edge.right, y1: at.y(value), y2: at.y(value), class: "grid" }));
    const label = spec.yNames ? spec.yNames[yTicks.indexOf(value)] : show(value, digits(yTicks));
    svg.append(make("text", { x: edge.left - 6, y: at.y(value) + 3.5, class: "tick", "text-anchor": "end" }, label));
  }
  const xTicks = spec.xTicks || ticks(...spec.x, 5);
  for (const value of xTicks) {
    const label = spec.xNames ? spec.xNames[xTicks.indexOf(value)] : show(value, digits(xTicks));
    svg.append(make("text", { x: at.x(value), y: height - edge.bottom + 15, class: "tick", "text-anchor": "middle" }, label));
  }
  svg.append(make("line", { x1: edge.left, x2: width - edge.right, y1: height - edge.bottom, y2: height - edge.bottom, class: "axis" }));
  if (spec.zero && spec.y[0] < 0) svg.append(make("line", { x1: edge.left, x2: width - edge.right, y1: at.y(0), y2: at.y(0), class: "level" }));
  const middle = (edge.left + width - edge.right) / 2;
  svg.append(make("text", { x: middle, y: height - 8, class: "label", "text-anchor": "middle" }, spec.xLabel));
  svg.append(make("text", { x: 2, y: 12, class: "label" }, spec.yLabel));
}

function marker(kind, x, y, style, size = 1) {
  if (kind === "square") return make("rect", { x: x - 3.2 * size, y: y - 3.2 * size, width: 6.4 * size, height: 6.4 * size, class: style });
  if (kind === "diamond") {
    const r = 4.6 * size;
    return make("path", { d: `M${x},${y - r}l${r},${r}l${-r},${r}l${-r},${-r}z`, class: style });
  }
  return make("circle", { cx: x, cy: y, r: 3.6 * size, class: style });
}

function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)},${y.toFixed(2)}`).join("");
}

function legend(svg, at, series) {
  let x = at.edge.left;
  for (const one of series.filter((s) => s.name)) {
    const dash = one.dashed ? " dashed" : "";
    svg.append(make("line", { x1: x, x2: x + 20, y1: 26, y2: 26, class: `${one.style} stroke${dash}` }));
    if (one.marker) svg.append(marker(one.marker, x + 10, 26, `${one.style} mark`));
    svg.append(make("text", { x: x + 25, y: 30, class: "legend" }, one.name));
    x += 25 + 6 * one.name.length + 14;
  }
}

let clips = 0;

// Intervals may reach beyond the axes: what lies outside the plotting area, but for a marker's width, is cut off.
function clip(svg, at) {
  clips += 1;
  const area = make("clipPath", { id: `clip-${clips}` });
  const { left, right, top, bottom } = at.edge;
  area.append(make("rect", { x: left - 6, y: top - 6, width: at.width - left - right + 12, height: at.height - top - bottom + 7 }));
  svg.append(area);
  return `url(#clip-${clips})`;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function begin(svg, at, spec) {
  svg.replaceChildren(make("title", {}, spec.title), make("desc", {}, spec.description));
  svg.setAttribute("viewBox", `0 0 ${at.width} ${at.height}`);
  svg.setAttribute("aria-label", `${spec.title}. ${spec.description}`);
  const caption = svg.parentElement.querySelector("figcaption");
  if (caption) caption.textContent = spec.title;
}

// series: {name, style, x[], y[], low[], high[], dashed, thin, marker, at}: ``at`` is the index that gets a mark.
function drawLines(svg, spec) {
  const at = frame(spec);
  begin(svg, at, spec);
  axes(svg, at, spec);
  if (spec.here !== undefined) {
    const x = at.x(spec.here);
    svg.append(make("line", { x1: x, x2: x, y1: at.edge.top, y2: at.height - at.edge.bottom, class: "here" }));
    if (spec.hereName) svg.append(make("text", { x: clamp(x, 90, at.width - 60), y: at.edge.top - 2, class: "note", "text-anchor": "middle" }, spec.hereName));
  }
  const whole = svg;
  svg = make("g", { "clip-path": clip(svg, at) });
  whole.append(svg);
  for (const one of spec.series) {
    const points = one.x.map((v, i) => [at.x(v), at.y(one.y[i])]);
    if (one.low && !one.whiskers) {
      const upper = one.x.map((v, i) => [at.x(v), at.y(one.high[i])]);
      const lower = one.x.map((v, i) => [at.x(v), at.y(one.low[i])]).reverse();
      svg.append(make("path", { d: `${path([...upper, ...lower])}Z`, class: `${one.style} band` }));
    }
    if (one.low && one.whiskers) {
      one.x.forEach((v, i) => svg.append(make("line", { x1: at.x(v), x2: at.x(v), y1: at.y(one.low[i]), y2: at.y(one.high[i]), class: `${one.style} whisker` })));
    }
    const classes = `${one.style} stroke${one.dashed ? " dashed" : ""}${one.thin ? " thin" : ""}`;
    if (!one.dots) svg.append(make("path", { d: path(points), class: classes }));
    if (one.marker && (one.whiskers || one.dots)) points.forEach(([x, y]) => svg.append(marker(one.marker, x, y, `${one.style} mark`)));
    if (one.at !== undefined) {
      const [x, y] = points[one.at];
      svg.append(marker(one.marker || "circle", x, y, `${one.style} mark`, 1.35));
    }
  }
  if (spec.legend) legend(whole, at, spec.series);
}

// points: dots of the start, over: dots of the policy; levels: {x | y, style} means as lines across.
function drawCloud(svg, spec) {
  const at = frame(spec);
  begin(svg, at, spec);
  axes(svg, at, spec);
  for (const [points, kind] of [[spec.points, "cloud"], [spec.over || [], "cloud over"]]) {
    const group = make("g", { class: kind });
    for (const [x, y] of points) {
      group.append(make("circle", { cx: clamp(at.x(x), 0, at.width).toFixed(1), cy: clamp(at.y(y), 0, at.height).toFixed(1), r: 2.2, class: "dot" }));
    }
    svg.append(group);
  }
  for (const one of spec.series || []) {
    svg.append(make("path", { d: path(one.x.map((v, i) => [at.x(v), at.y(one.y[i])])), class: `${one.style} stroke${one.dashed ? " dashed" : ""}` }));
  }
  for (const line of spec.levels || []) {
    const mark = line.x !== undefined
      ? { x1: at.x(line.x), x2: at.x(line.x), y1: at.edge.top, y2: at.height - at.edge.bottom }
      : { x1: at.edge.left, x2: at.width - at.edge.right, y1: at.y(line.y), y2: at.y(line.y) };
    svg.append(make("line", { ...mark, class: `${line.style} stroke` }));
    const note = line.x !== undefined
      ? { x: at.x(line.x), y: at.edge.top - 5, "text-anchor": "middle" }
      : { x: at.width - at.edge.right, y: at.y(line.y) - 5, "text-anchor": "end" };
    svg.append(make("text", { ...note, class: "note" }, line.name));
  }
}

// rows: {rule, place, mean, low, high}, one above the other, each a dot with its interval.
function drawDots(svg, spec) {
  const { width } = spec.size;
  const height = 60 + 34 * spec.rows.length;
  const at = frame({ ...spec, size: { width, height }, y: [-0.5, spec.rows.length - 0.5] });
  at.edge.top = 10;
  begin(svg, at, spec);
  for (const value of ticks(...spec.x, 5)) {
    svg.append(make("line", { x1: at.x(value), x2: at.x(value), y1: 0, y2: height - at.edge.bottom, class: "grid" }));
    svg.append(make("text", { x: at.x(value), y: height - at.edge.bottom + 15, class: "tick", "text-anchor": "middle" }, show(value, 2)));
  }
  for (const row of spec.rows) {
    const y = at.y(row.place);
    svg.append(make("text", { x: at.edge.left + 4, y: y - 7, class: "legend" }, row.rule));
    svg.append(make("line", { x1: at.x(Math.max(row.low, spec.x[0])), x2: at.x(row.high), y1: y + 3, y2: y + 3, class: "policy whisker" }));
    svg.append(marker("circle", at.x(row.mean), y + 3, "policy mark"));
  }
  svg.append(make("text", { x: (at.edge.left + width) / 2, y: height - 8, class: "label", "text-anchor": "middle" }, spec.xLabel));
}
