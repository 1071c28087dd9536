/* Overview: how the nodes are, and how that was in the last minutes. */

const POLL_S = 2, MOST_SNAPSHOTS = LONGEST_SPAN_S / POLL_S + 1, WINDOW = 8, GONE_FOR_S = 300;

/* Readings of all workers, oldest first: {at, nodes: Map of uid -> worker}. A bounded ring. */
const snapshots = [];
const lastSeen = new Map();  // uid -> {at, node}

function remember(nodes) {
  const at = Date.now() / 1000;
  snapshots.push({at, nodes: new Map(nodes.map((node) => [node.uid, node]))});
  if (snapshots.length > MOST_SNAPSHOTS) snapshots.shift();
  for (const node of nodes) lastSeen.set(node.uid, {at, node});
  for (const [uid, seen] of lastSeen) if (at - seen.at > GONE_FOR_S) lastSeen.delete(uid);
}

/* How fast a counter of one worker grows, null when that is not known. */
function rateOf(uid, name, index) {
  const now = snapshots[index]?.nodes.get(uid), before = snapshots[index - 1]?.nodes.get(uid);
  return now && before && now.uptime_s > before.uptime_s ? (now[name] - before[name]) / (now.uptime_s - before.uptime_s) : null;
}

function rates(name, index) {
  return [...snapshots[index].nodes.keys()].map((uid) => rateOf(uid, name, index)).filter((rate) => rate !== null);
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
const total = (name, index) => sum([...snapshots[index].nodes.values()].map((node) => node[name]));

/* A quantile of what all workers observed within the last readings, between the bounds of its bucket. */
function quantile(share, name, index) {
  const counts = [], from = Math.max(0, index - WINDOW);
  let bounds = [];
  for (const [uid, node] of snapshots[index].nodes) {
    const before = snapshots[from].nodes.get(uid);
    if (!before) continue;
    bounds = node[name].bounds;
    node[name].counts.forEach((count, i) => { counts[i] = (counts[i] || 0) + count - before[name].counts[i]; });
  }
  const all = sum(counts);
  if (all <= 0) return null;
  let passed = 0;
  for (let i = 0; i < counts.length; i++) {
    if (passed + counts[i] >= share * all) {
      const low = i ? bounds[i - 1] : 0, high = i < bounds.length ? bounds[i] : bounds.at(-1);
      return low + (high - low) * ((share * all - passed) / counts[i]);
    }
    passed += counts[i];
  }
  return bounds.at(-1);
}

/* Every worker reads the whole log, so of publications the fastest reading is what was published. */
const FIGURES = [
  ["Publications a second", [["", (i) => maxOf(rates("publications", i))]], compact],
  ["Deliveries a second", [["", (i) => sumOf(rates("deliveries", i))]], compact],
  ["Connections", [["", (i) => total("connections", i)]], compact],
  ["Publish to read back", [["p50", (i) => quantile(0.5, "append_to_read", i)], ["p99", (i) => quantile(0.99, "append_to_read", i)]], latency],
  ["Record to socket", [["p50", (i) => quantile(0.5, "record_to_socket", i)], ["p99", (i) => quantile(0.99, "record_to_socket", i)]], latency],
  ["CPU of a worker", [["mean", (i) => meanOf(rates("cpu_s", i))], ["highest", (i) => maxOf(rates("cpu_s", i))]], (share) => (share === null ? "–" : `${number(share * 100)} %`)],
];
const maxOf = (values) => (values.length ? Math.max(...values) : null);
const sumOf = (values) => (values.length ? sum(values) : null);
const meanOf = (values) => (values.length ? sum(values) / values.length : null);

const STATES = {ready: "good", starting: "warn", leaving: "warn", failing: "bad"};

const overview = {
  title: "Overview",

  open(view) {
    this.charts = FIGURES.map(([title, lines, format]) => new Chart(title, lines.map(([name]) => name), format));
    this.tiles = make("div", {class: "tiles", id: "tiles"});
    this.nodes = make("div", {id: "nodes"});
    const spans = SPANS_S.map((seconds) => button(duration(seconds), () => { span = seconds; this.open(view); }, {class: "small", "aria-pressed": String(span === seconds)}));
    view.replaceChildren(this.tiles, make("div", {class: "row"}, make("h2", {}, "The last minutes"), make("span", {class: "spacer"}), make("span", {class: "spans", role: "group", "aria-label": "How long"}, ...spans)),
      make("div", {class: "charts", id: "charts"}, ...this.charts.map((chart) => chart.element)),
      make("section", {class: "stack"}, make("h2", {}, "Nodes"), this.nodes));
    this.refresh();
  },

  refresh() {
    if (!snapshots.length) return this.nodes.replaceChildren(empty("Asking the nodes…"));
    const last = snapshots.length - 1, {at, nodes} = snapshots[last];
    this.charts.forEach((chart, i) => {
      const readings = FIGURES[i][1].map(([, read]) => snapshots.map((snapshot, n) => ({at: snapshot.at, value: n ? read(n) : null})));
      chart.show(readings, at);
    });
    this.drawTiles(last, [...nodes.values()]);
    this.drawNodes(last, at);
  },

  drawTiles(last, nodes) {
    const names = new Set(nodes.map((node) => node.name)), ready = nodes.filter((node) => node.state === "ready").length;
    const end = Math.max(...nodes.map((node) => node.log_end)), lag = Math.max(...nodes.map((node) => node.log_lag_s));
    const kept = nodes[0];
    const tiles = [
      ["Nodes", number(names.size), `${plural(nodes.length, "worker")}, ${ready === nodes.length ? "all ready" : `${ready} ready`}`],
      ["Connections", number(total("connections", last)), `${plural(total("subscriptions", last), "subscription")}`],
      ["Publications a second", number(maxOf(rates("publications", last))), ""],
      ["Deliveries a second", number(sumOf(rates("deliveries", last))), ""],
      ["Log", number(end), lag ? `read back ${duration(lag)} ago` : "in memory"],
      ["History", number(kept.history_publications), `kept, ${bytes(kept.history_bytes)} a worker`],
    ];
    this.tiles.replaceChildren(...tiles.map(([name, value, note]) =>
      make("div", {class: "card tile"}, make("span", {class: "name"}, name), make("output", {}, value), make("span", {class: "note"}, note))));
  },

  drawNodes(last, at) {
    const {nodes} = snapshots[last], end = Math.max(...[...nodes.values()].map((node) => node.log_end));
    const gone = [...lastSeen.values()].filter(({node}) => !nodes.has(node.uid));
    const order = (a, b) => a.name.localeCompare(b.name) || a.worker - b.worker;
    const rows = [...nodes.values()].sort(order).map((node) => this.row(node, last, end));
    for (const {node, at: seen} of gone) {
      rows.push(make("tr", {}, make("td", {class: "name", title: node.uid}, nodeName(node)), make("td", {}, pill("gone", "warn")),
        make("td", {colspan: "9", class: "soft"}, `no answer for ${duration(at - seen)}`)));
    }
    const heads = ["Node", "State", "Version", ["Up", "number"], ["Connections", "number"], ["Subscriptions", "number"], ["Deliveries/s", "number"],
      ["Log position", "number"], ["Behind", "number"], ["CPU", "number"], ["Memory", "number"]];
    this.nodes.replaceChildren(table("nodes-table", heads, rows));
  },

  row(node, last, end) {
    const cpu = rateOf(node.uid, "cpu_s", last), behind = end - node.log_end;
    const notes = [node.problem, node.log_blocked && "the broker holds publishers back", node.redis_up === false && "Redis is away"].filter(Boolean);
    const cells = [duration(node.uptime_s), number(node.connections), number(node.subscriptions), number(rateOf(node.uid, "deliveries", last)),
      number(node.log_end), behind ? plural(behind, "record") : "–", cpu === null ? "–" : `${number(cpu * 100)} %`, bytes(node.rss_bytes)];
    return make("tr", {}, make("td", {class: "name", title: node.uid}, nodeName(node)),
      make("td", {}, pill(node.state, STATES[node.state]), ...notes.map((note) => make("div", {class: "node-problem"}, note))),
      make("td", {}, node.version), ...cells.map((text) => make("td", {class: "number"}, text)));
  },
};

function nodeName(node) {
  const several = [...lastSeen.values()].some((seen) => seen.node.name === node.name && seen.node.worker !== node.worker);
  return several ? `${node.name} / ${node.worker}` : node.name;
}

/* The name of a worker that was heard of, or its id. */
function nameOf(uid) {
  const seen = lastSeen.get(uid);
  return seen ? nodeName(seen.node) : uid.slice(0, 8);
}
