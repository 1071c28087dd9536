/* Explain: what became of a recent message, on every node. */

const explain = {
  title: "Explain",

  open(view, {id = "", offset = ""}) {
    const message = input("message-id", {value: id, placeholder: "message_id or idempotency key"});
    const place = input("message-offset", {value: offset, inputmode: "numeric", pattern: "[0-9]*", placeholder: "its place in the log"});
    const form = make("form", {class: "tools", onsubmit: (event) => {
      event.preventDefault();
      go("explain", message.value.trim() ? {id: message.value.trim()} : {offset: place.value.trim()});
    }}, field("Message id", message), field("or offset", place), make("button", {class: "main", id: "explain-button"}, "Explain"));
    const answer = make("div", {class: "stack", id: "explanation", "aria-live": "polite"});
    view.replaceChildren(make("div", {class: "stack"}, form, answer));
    if (id || offset) return this.load(answer, id ? {id} : {offset: Number(offset)});
    answer.replaceChildren(empty("Where has a message gone?", "Every worker remembers the last 10,000 records that it read."));
    return undefined;
  },

  async load(answer, request) {
    answer.replaceChildren(empty("Asking the nodes…"));
    try {
      const {nodes} = await api("explain", request);
      answer.replaceChildren(...nodes.map((node) => this.node(node)));
    } catch (error) {
      answer.replaceChildren(problem(error.message));
    }
  },

  node({node, log_end: end, remembers_from: from, records = []}) {
    const known = records.length ? records.map((record) => this.record(record))
      : [make("p", {class: "hint"}, from ? `Has read no such record since offset ${number(from)}; the log ends at ${number(end)}.` : "Has read no record yet.")];
    return make("section", {class: "card"}, make("div", {class: "row"}, make("h2", {}, nameOf(node)), pill(records.length ? "read" : "not read", records.length ? "good" : "warn")), ...known);
  },

  record({offset, message_id: id, read_at: at, rejected, channels: names}) {
    return make("div", {class: "stack"}, make("p", {class: "hint"}, `Offset ${number(offset)}${id ? `, id ${id}` : ""}, read ${moment(at)}`),
      rejected && problem(`Not a publication: ${rejected}`), ...names.map((channel) => this.channel(channel)));
  },

  channel({channel, match, rule, outcome, written = 0, connections: reached = [], more = 0}) {
    const delivered = outcome === "delivered";
    const rows = reached.map((each) => make("tr", {}, make("td", {class: "name"}, each.user ? link("connections", {search: each.user}, each.user) : userName("")),
      make("td", {class: "mono", title: each.client}, each.client.slice(0, 8)), make("td", {}, pill(each.got ? "got it" : "did not", each.got ? "good" : "warn")), make("td", {}, each.why || (each.recovered ? "when it came back" : ""))));
    return make("div", {class: "stack"},
      make("div", {class: "row"}, link("channels", {name: channel}, channel, {class: "mono"}), pill(delivered ? `written to ${plural(written, "connection")} when it was read` : outcome, delivered ? "good" : "warn"),
        make("span", {class: "soft"}, rule >= 0 ? `rule ${rule + 1}: ${match}` : "no rule")),
      rows.length ? table("reached", ["User", "Client", "Got it", "When, or why not"], rows) : delivered && make("p", {class: "hint"}, "Nobody is subscribed at this worker now."),
      more ? make("p", {class: "hint"}, `and ${plural(more, "connection")} more`) : null);
  },
};
