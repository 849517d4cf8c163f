// Charts over time by uPlot, small charts in rows, and histograms.

import { h, svg, count, duration, clock, plural } from "./dom.js";

const HEIGHT = 160;
// Of counts and milliseconds alike: no axis needs less than one
const STEPS = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat();
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const shortDuration = (ms) => ms === null ? "" : ms < 1000 ? `${Math.round(ms)} ms` : ms < 60000 ? `${+(ms / 1000).toFixed(1)} s` : `${+(ms / 60000).toFixed(1)} min`;

export const UNITS = {
  count: { axis: (value) => count(value), value: (value) => count(value) },
  ms: { axis: shortDuration, value: (value) => duration(value) },
};

// One chart: lines with a name, a colour of the style sheet and a column of the series
export class Chart {
  constructor(title, unit, lines) {
    Object.assign(this, { title, unit: UNITS[unit], lines });
    this.heading = h("h3", {}, title);
    this.place = h("div", { class: "plot", role: "img" });
    this.element = h("figure", {}, this.heading, this.place);
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.place);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", this.redraw = () => { this.drop(); if (this.series) this.show(this.series); });
  }

  show(series) {
    this.series = series;
    const data = [series.times_ms.map((ms) => ms / 1000), ...this.lines.map((line) => series[line.column])];
    if (this.plot) this.plot.setData(data);
    else this.make(data);
    if (this.plot && (this.plot.cursor.left ?? -1) < 0) this.plot.setLegend({ idx: data[0].length - 1 });
    const latest = this.lines.map((line) => {
      const known = series[line.column].filter((value) => value !== null);
      return `${line.name} now ${this.unit.value(known.at(-1) ?? null)}, at most ${this.unit.value(known.length ? Math.max(...known) : null)}`;
    });
    this.place.setAttribute("aria-label", `${this.title}: ${latest.join("; ")}`);
  }

  make(data) {
    const width = this.place.clientWidth;
    if (!width || !globalThis.uPlot) return;
    const quiet = style("--quiet");
    const grid = { stroke: style("--grid"), width: 1 };
    const axis = { stroke: quiet, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const pad = (value) => (value === null || value === undefined ? "–" : this.unit.value(value));
    this.plot = new globalThis.uPlot({
      width, height: HEIGHT,
      legend: { live: true },
      padding: [10, 24, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
      axes: [
        { ...axis, size: 26, space: 70, values: (_plot, seconds) => seconds.map((each) => clock(each * 1000).slice(-8, -3)) },
        { ...axis, size: 56, space: 32, incrs: STEPS, values: (_plot, values) => values.map((value) => this.unit.axis(value)) },
      ],
      series: [
        { label: "at", value: (_plot, seconds) => (seconds === null ? "–" : clock(seconds * 1000)) },
        ...this.lines.map((line) => ({
          label: line.name, stroke: style(line.color), width: 1.5, spanGaps: true, points: { show: false },
          fill: line.fill ? `${style(line.color)}22` : undefined, value: (_plot, value) => pad(value),
        })),
      ],
    }, data, this.place);
  }

  fit() {
    const width = this.place.clientWidth;
    if (this.plot && width) this.plot.setSize({ width, height: HEIGHT });
    else if (this.series) this.show(this.series);
  }

  drop() {
    this.plot?.destroy();
    this.plot = null;
  }

  end() {
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.redraw);
    this.drop();
  }
}

// A small chart in a row: all rows of a page share the scale
export function spark(values, top, title) {
  const step = 60 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(19 - (18 * value) / Math.max(1, top)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", role: "img", "aria-label": title },
    svg("polygon", { points: `0,19 ${points.join(" ")} 60,19` }), svg("polyline", { points: points.join(" ") }));
}

// How long runs and waits took, in steps of × 2. A click on a bar asks for the items in it.
export function histogram({ bounds_ms: bounds, wait, run }, onPick) {
  const used = bounds.map((_, at) => at).filter((at) => wait[at] || run[at]);
  if (!used.length) return h("p", { class: "quiet" }, "No durations to show.");
  const places = bounds.map((_, at) => at).slice(Math.max(0, used[0] - 1), used.at(-1) + 2);
  const top = Math.max(...places.map((at) => Math.max(wait[at], run[at])));
  const bar = (name, number) => {
    const made = h("span", { class: `bar-${name}` });
    made.style.height = `${(100 * number) / top}%`;
    return made;
  };
  const columns = places.map((at) => {
    const from = at ? bounds[at - 1] : 0;
    const text = `${shortDuration(from)} to ${shortDuration(bounds[at])}: ${plural(run[at], "run")}, ${plural(wait[at], "wait")}`;
    return h("button", { type: "button", title: text, "aria-label": text, onclick: () => onPick(from, bounds[at] - 1) },
      h("span", { class: "bars" }, bar("wait", wait[at]), bar("run", run[at])), h("small", {}, shortDuration(from)));
  });
  return h("div", { class: "histogram" }, h("div", { class: "columns" }, columns),
    h("p", { class: "legend" }, h("i", { class: "bar-wait" }), "wait ", h("i", { class: "bar-run" }), "run ",
      h("span", { class: "quiet" }, `the highest bar is ${plural(top, "item")}; a click shows the items of a bar`)));
}
