"use strict";
// Reads values off the curves: by pointer, and with the arrow keys once a chart has the focus.
const number = (value) => Number(value.toPrecision(4)).toLocaleString("en").replaceAll(",", " ");
const pad = (value) => String(value).padStart(2, "0");
function across(value, form) {
  if (form.startsWith("unit:")) return number(value) + form.slice(5);
  if (form.startsWith("names:")) return form.slice(6).split("|")[Math.round(value)];
  if (value < 60) return number(value) + " s";
  const whole = Math.round(value), minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${pad(whole % 60)}` : `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(whole % 60)}`;
}
const scale = (words) => {
  const [low, high, start, end] = words.split(" ").map(Number);
  return (pixel) => low + (pixel - start) / (end - start) * (high - low);
};
const svgPart = (name, kind) => {
  const part = document.createElementNS("http://www.w3.org/2000/svg", name);
  part.setAttribute("class", kind);
  return part;
};
function readable(plot) {
  const charts = [...plot.querySelectorAll("svg[data-x]")];
  if (!charts.length) return;
  const names = [...plot.querySelectorAll(".key")].map((key) => key.textContent);
  const said = document.createElement("p");
  said.className = "reading";
  said.setAttribute("aria-live", "polite");
  plot.append(said);
  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", "Chart: the left and right arrow keys read its values");
  let at = null;
  const shown = () => charts.find((chart) => chart.getClientRects().length);
  const curves = (chart) => [...chart.querySelectorAll(".series")].map((line) => [...line.points]);
  function clear() {
    plot.querySelectorAll(".cursor").forEach((part) => part.remove());
    said.textContent = "";
  }
  function read(chart, pixel) {
    clear();
    const x = scale(chart.dataset.x), y = scale(chart.dataset.y);
    const near = curves(chart).map((points) => points.reduce((a, b) => Math.abs(b.x - pixel) < Math.abs(a.x - pixel) ? b : a));
    const [low, high] = chart.dataset.y.split(" ").slice(2).map(Number);
    const line = svgPart("line", "cursor");
    for (const [key, value] of Object.entries({x1: near[0].x, x2: near[0].x, y1: low, y2: high})) line.setAttribute(key, value);
    chart.append(line);
    const words = near.map((point, n) => {
      const dot = svgPart("circle", "cursor");
      for (const [key, value] of Object.entries({cx: point.x, cy: point.y, r: 4})) dot.setAttribute(key, value);
      chart.append(dot);
      return (names[n] ? names[n] + " " : "") + number(y(point.y)) + " " + chart.dataset.unit;
    });
    said.textContent = across(x(near[0].x), chart.dataset.form) + ": " + words.join(", ");
  }
  plot.addEventListener("pointermove", (event) => {
    const chart = shown();
    if (!chart) return;
    const box = chart.getBoundingClientRect();
    read(chart, (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width);
  });
  plot.addEventListener("pointerleave", clear);
  plot.addEventListener("blur", clear);
  plot.addEventListener("keydown", (event) => {
    const chart = shown(), step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9}[event.key];
    if (!chart || !step) return;
    event.preventDefault();
    const points = curves(chart)[0];
    at = Math.min(points.length - 1, Math.max(0, at === null ? (step > 0 ? 0 : points.length - 1) : at + step));
    read(chart, points[at].x);
  });
}
document.querySelectorAll(".plot").forEach(readable);
const folded = "details.printed:not([open])";
addEventListener("beforeprint", () => document.querySelectorAll(folded).forEach((part) => { part.open = part.dataset.opened = true; }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-opened]").forEach((part) => { part.open = false; delete part.dataset.opened; }));
