// Line charts as SVG. Times are Unix seconds; a gap longer than `gap` seconds interrupts the line.
"use strict";
const Chart = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const PAD = { left: 4, right: 4, top: 18, bottom: 22 };

  const element = (parent, name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };

  // 1, 2 or 5 times a power of ten, so that about `count` of them make `max`.
  const niceStep = (max, count) => {
    const raw = max / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw * 0.999);
  };

  const STEPS = [60, 120, 300, 600, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800, 604800, 1209600];

  // Round local times.
  const timeTicks = (from, to, room) => {
    const step = STEPS.find((step) => (to - from) / step <= room) || 2592000;
    const offset = step >= 3600 ? new Date(to * 1000).getTimezoneOffset() * 60 : 0;
    const ticks = [];
    for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) ticks.push(at);
    return { ticks, step };
  };

  const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  const day = (at) => new Date(at * 1000).toLocaleDateString("en", { day: "numeric", month: "short" });
  const moment = (at, span) =>
    span > 172800 ? `${day(at)}, ${clock(at)}` : new Date(at * 1000).toLocaleTimeString([], { hour12: false });

  class Chart {
    // options: height, spark (no axes), whole (no fractions), format(value), unit, title
    constructor(figure, options) {
      this.figure = figure;
      this.options = options;
      this.data = null;
      this.at = null;
      this.svg = element(figure, "svg", { role: "img", tabindex: options.spark ? -1 : 0 });
      this.caption = document.createElement("figcaption");
      figure.append(this.caption);
      new ResizeObserver(() => this.draw()).observe(figure);
      if (options.spark) return;
      this.svg.addEventListener("pointermove", (event) => {
        const box = this.svg.getBoundingClientRect();
        this.point((event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right));
      });
      this.svg.addEventListener("pointerleave", () => this.leave());
      this.svg.addEventListener("blur", () => this.leave());
      this.svg.addEventListener("keydown", (event) => this.key(event));
    }

    // data: points [[time, value], …], from, to, gap, and options to change.
    show(data) {
      this.data = data;
      this.draw();
    }

    point(part) {
      if (!this.data || !this.data.points.length) return;
      const wanted = this.data.from + part * (this.data.to - this.data.from);
      const nearer = (best, point) => (Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted) ? point : best);
      this.at = this.data.points.reduce(nearer)[0];
      this.draw();
    }

    key(event) {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") return this.leave();
      if (!by || !this.data || !this.data.points.length) return;
      event.preventDefault();
      const points = this.data.points;
      const index = points.findIndex((point) => point[0] === this.at);
      const next = index < 0 ? points.length - 1 : Math.min(points.length - 1, Math.max(0, index + by));
      this.at = points[next][0];
      this.draw();
    }

    leave() {
      this.at = null;
      this.draw();
    }

    draw() {
      const width = this.figure.clientWidth;
      if (!this.data || !width) return;
      const { points, from, to, gap } = this.data;
      const { height, spark, whole, format, unit, title } = { ...this.options, ...this.data };
      const pad = spark ? { left: 2, right: 6, top: 6, bottom: 2 } : PAD;
      const svg = this.svg;
      svg.replaceChildren();
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("height", height);

      const values = points.map((point) => point[1]);
      const highest = Math.max(...values, 0);
      const step = Math.max(niceStep(highest || 1, height < 200 ? 2 : 3), whole ? 1 : 0);
      const top = spark ? highest * 1.05 || 1 : Math.ceil((highest || 1) / step) * step;
      const x = (at) => pad.left + ((at - from) / (to - from)) * (width - pad.left - pad.right);
      const y = (value) => height - pad.bottom - (value / top) * (height - pad.top - pad.bottom);

      if (!spark) {
        for (let value = 0; value <= top * 1.001; value += step) {
          element(svg, "line", { class: "grid", x1: 0, x2: width, y1: y(value), y2: y(value) });
          if (value > 0) element(svg, "text", { x: 0, y: y(value) - 5 }, format(value));
        }
        const { ticks, step: every } = timeTicks(from, to, width < 480 ? 5 : 9);
        for (const at of ticks) {
          if (x(at) < 20 || x(at) > width - 20) continue;
          element(svg, "text", { x: x(at), y: height - 4, "text-anchor": "middle" }, every >= 86400 ? day(at) : clock(at));
        }
      }

      let run = [];
      const flush = () => {
        if (run.length > 1) {
          const line = run.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
          const [first, last] = [x(run[0][0]).toFixed(1), x(run[run.length - 1][0]).toFixed(1)];
          element(svg, "path", { class: "area", d: `M${first} ${y(0)}L${line}L${last} ${y(0)}Z` });
          element(svg, "path", { class: "line", d: `M${line}` });
        } else if (run.length === 1) {
          element(svg, "circle", { class: "mark", cx: x(run[0][0]), cy: y(run[0][1]), r: 4 });
        }
        run = [];
      };
      for (const point of points) {
        if (point[0] < from) continue;
        if (run.length && point[0] - run[run.length - 1][0] > gap) flush();
        run.push(point);
      }
      flush();

      const last = points[points.length - 1];
      const described = last ? `now ${format(last[1])} ${unit}, at most ${format(highest)} ${unit}` : "nothing yet";
      svg.setAttribute("aria-label", `${title}: ${described}`);
      if (spark && last) element(svg, "circle", { class: "mark", cx: x(last[0]), cy: y(last[1]), r: 4.5 });
      const chosen = this.at !== null && points.find((point) => point[0] === this.at);
      if (chosen) {
        element(svg, "line", { class: "cursor", x1: x(chosen[0]), x2: x(chosen[0]), y1: pad.top, y2: height - pad.bottom });
        element(svg, "circle", { class: "mark", cx: x(chosen[0]), cy: y(chosen[1]), r: 4.5 });
      }
      const said = chosen ? `${moment(chosen[0], to - from)}: ${format(chosen[1])} ${unit}` : this.data.caption || "";
      if (this.caption.textContent !== said) this.caption.textContent = said;
    }
  }
  return Chart;
})();
