/* Charts: lines over the last minutes, drawn as SVG. */

const SPANS_S = [60, 300, 900], LONGEST_SPAN_S = 900;
let span = 300;  // in seconds: what the charts show

const CHART_HEIGHT = 150, LEFT = 44, BOTTOM = 18, TOP = 6;

/* `lines` are the names of the series, `format` makes a value a text. `show` takes, for each line, points {at, value}
   with time in seconds and null where nothing is known. */
class Chart {
  constructor(title, lines, format) {
    this.lines = lines;
    this.format = format;
    this.series = lines.map(() => []);
    this.hovered = null;
    this.values = lines.map(() => make("b", {}, "–"));
    const legend = lines.map((name, i) => make("span", {class: `s${i + 1}`}, make("i", {}), name ? `${name} ` : "", this.values[i]));
    this.svg = draw("svg", {role: "img", "aria-label": title});
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => { this.hovered = null; this.paint(); });
    this.element = make("figure", {class: "card"},
      make("figcaption", {}, make("h2", {}, title), make("span", {class: "legend"}, ...legend)), this.svg);
  }

  show(series, now) {
    this.series = series;
    this.now = now;
    this.paint();
  }

  hover(event) {
    const {left, width} = this.svg.getBoundingClientRect();
    const share = (event.clientX - left - LEFT) / (width - LEFT);
    this.hovered = share >= 0 ? this.now - span * (1 - share) : null;
    this.paint();
  }

  paint() {
    const width = this.svg.clientWidth;
    if (!width || this.now === undefined) return;
    const known = this.series.flat().filter(({at, value}) => value !== null && at >= this.now - span).map(({value}) => value);
    const top = niceTop(Math.max(...known, 0));
    const x = (at) => LEFT + (width - LEFT) * (1 - (this.now - at) / span);
    const y = (value) => TOP + (CHART_HEIGHT - BOTTOM - TOP) * (1 - value / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      parts.push(draw("line", {class: "grid", x1: LEFT, x2: width, y1: at, y2: at}));
      parts.push(draw("text", {x: LEFT - 6, y: at + 4, "text-anchor": "end"}, this.format(top * share)));
    }
    for (const [ago, text, anchor] of [[span, `${duration(span)} ago`, "start"], [span / 2, duration(span / 2), "middle"], [0, "now", "end"]]) {
      parts.push(draw("text", {x: x(this.now - ago), y: CHART_HEIGHT - 3, "text-anchor": anchor}, text));
    }
    this.series.forEach((points, i) => {
      for (const run of unbroken(points.filter(({at}) => at >= this.now - span))) {
        const path = run.map(({at, value}, n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
        if (this.lines.length === 1) {
          parts.push(draw("path", {class: "area s1", d: `${path}L${x(run.at(-1).at).toFixed(1)} ${y(0)}L${x(run[0].at).toFixed(1)} ${y(0)}Z`}));
        }
        parts.push(draw("path", {class: `line s${i + 1}`, d: path}));
      }
    });
    if (!known.length) parts.push(draw("text", {x: (LEFT + width) / 2, y: CHART_HEIGHT / 2 - 12, "text-anchor": "middle"}, "nothing observed yet"));
    if (this.hovered !== null) parts.push(draw("line", {class: "cursor", x1: x(this.hovered), x2: x(this.hovered), y1: TOP, y2: CHART_HEIGHT - BOTTOM}));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    this.svg.replaceChildren(...parts);
    this.series.forEach((points, i) => {
      const point = this.hovered === null ? points.at(-1) : nearest(points, this.hovered);
      this.values[i].textContent = point && point.value !== null ? this.format(point.value) : "–";
    });
  }
}

/* A round number that is not below. */
function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((top) => top >= value * 0.999);
}

function unbroken(points) {
  const runs = [[]];
  for (const point of points) {
    if (point.value === null) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs.filter((run) => run.length);
}

function nearest(points, at) {
  let best = null;
  for (const point of points) if (!best || Math.abs(point.at - at) < Math.abs(best.at - at)) best = point;
  return best;
}
