/* Channels: which ones there are, and of each its rule, presence and history; publishing. */

const SHOWN_PRESENT = 200, SHOWN_HISTORY = 20;

const channels = {
  title: "Channels",

  open(view, {search = "", name = ""}) {
    if (name) return this.openOne(view, name);
    const text = input("search", {value: search, type: "search", placeholder: "part of a name, or a pattern: orders.*"});
    const form = make("form", {class: "tools", role: "search", onsubmit: (event) => { event.preventDefault(); go("channels", {search: text.value.trim()}); }},
      field("Channel", text), make("button", {class: "main", id: "find"}, "Search"),
      button("Open by name", () => (text.value.trim() ? go("channels", {name: text.value.trim()}) : toast("Type the channel's name first.", true)), {id: "open"}));
    const list = make("div", {class: "stack", id: "channels", "aria-live": "polite"}, empty("Looking…"));
    view.replaceChildren(make("div", {class: "stack"}, form, list));
    return this.list(list, search);
  },

  async list(list, search) {
    let found;
    try {
      found = await api("channels", {search});
    } catch (error) {
      return list.replaceChildren(problem(error.message));
    }
    if (!found.channels.length) {
      return list.replaceChildren(empty("No channels", search ? "No channel with subscribers matches. One without can be opened by its full name."
        : "Nobody is subscribed to anything. A channel without subscribers can be opened by its name."));
    }
    const rows = found.channels.map((row) => make("tr", {}, make("td", {class: "name"}, link("channels", {name: row.channel}, row.channel)),
      make("td", {class: "number"}, number(row.subscribers)), make("td", {class: "mono"}, row.match || "no rule"),
      make("td", {class: "actions"}, link("live", {channel: row.channel}, "Live", {class: "button small", "aria-label": `${row.channel}, live`}))));
    list.replaceChildren(table("channels-table", ["Channel", ["Subscribers", "number"], "Rule", ["", "actions"]], rows),
      make("div", {class: "more"}, found.more ? "There are more: those with most subscribers are shown." : plural(rows.length, "channel")));
    return undefined;
  },

  async openOne(view, name) {
    const facts = make("section", {class: "card", id: "rule"}, empty("Looking…"));
    const presence = make("section", {class: "card", id: "presence"}), history = make("section", {class: "card", id: "history"});
    const tools = make("div", {class: "row"}, link("channels", {}, "← Channels"), make("h1", {class: "mono"}, name), make("span", {class: "spacer"}),
      link("connections", {channel: name}, "Connections", {class: "button"}), link("live", {channel: name}, "Live", {class: "button"}),
      button("Refresh", () => this.openOne(view, name), {id: "refresh"}));
    let channel;
    try {
      channel = await api("channel", {channel: name});
    } catch (error) {
      return view.replaceChildren(tools, problem(error.message));
    }
    view.replaceChildren(tools, make("div", {class: "columns"}, make("div", {class: "stack"}, facts, this.publisher(name, history), presence), make("div", {class: "stack"}, history)));
    this.drawFacts(facts, channel);
    await Promise.all([this.drawPresence(presence, channel), this.drawHistory(history, channel)]);
    return undefined;
  },

  drawFacts(section, {subscribers, top, index, rule}) {
    const said = rule ? [["Matches", rule.match], ["Place in the configuration", number(index + 1)], ["History", kept(rule.history)], ["Archive", kept(rule.archive)],
      ["Recovery", rule.recovery], ["Presence", rule.presence ? "on" : "off"], ["Joins and leaves", rule.join_leave.replace("_", " ")],
      ["Options", ["delta", "tag_filter", "wildcard"].filter((option) => rule[option]).join(", ").replace("_", " ") || "none"],
      ["May subscribe", rule.subscribe.join(", ") || "nobody"], ["May publish", rule.publish.join(", ") || "only backends"]] : [["Rule", "none matches: nobody may use this channel"]];
    const facts = [["Subscribers", number(subscribers)], ["Last offset", top ? number(top) : "–"], ...said];
    section.replaceChildren(make("h2", {}, "Rule"), make("dl", {}, ...facts.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)])));
  },

  async drawPresence(section, {channel, rule}) {
    const fill = (...children) => section.replaceChildren(make("h2", {}, "Presence"), ...children);
    if (!rule?.presence) return fill(make("p", {class: "hint"}, "Off for this channel's rule."));
    try {
      const {num_clients: clients, num_users: users} = await api("presence_stats", {channel});
      const text = make("p", {class: "hint", id: "present"}, `${plural(clients, "client")}, ${plural(users, "user")}`);
      if (!clients || clients > SHOWN_PRESENT) return fill(text, clients ? make("p", {class: "hint"}, "Too many to list here.") : null || "");
      const found = Object.values((await api("presence", {channel})).presence);
      const names = [...new Set(found.map(({user}) => user))].sort();
      return fill(text, make("div", {class: "chips"}, ...names.map((user) => (user ? link("connections", {search: user}, user, {class: "chip"}) : make("span", {class: "chip"}, userName(""))))));
    } catch (error) {
      return fill(problem(error.message));
    }
  },

  async drawHistory(section, {channel, rule}) {
    const fill = (...children) => section.replaceChildren(make("h2", {}, "History"), ...children);
    if (!rule?.history) return fill(make("p", {class: "hint"}, "This channel keeps none. What is published can be seen live."));
    try {
      const {publications = []} = await api("history", {channel, limit: SHOWN_HISTORY, reverse: true});
      if (!publications.length) return fill(empty("Nothing", "Nothing is kept now."));
      return fill(make("ul", {class: "records"}, ...publications.map((publication) => this.publication(publication))));
    } catch (error) {
      return fill(problem(error.message));
    }
  },

  publication({offset, data, info, tags}) {
    const head = [make("span", {}, `offset ${offset}`), info?.user && make("span", {}, `from ${info.user}`),
      ...Object.entries(tags || {}).map(([tag, value]) => make("span", {}, `${tag}=${value}`)),
      link("explain", {offset}, "Explain", {class: "explain"})];
    return make("li", {}, make("div", {class: "head"}, ...head), make("pre", {}, JSON.stringify(data)));
  },

  publisher(name, history) {
    const data = make("textarea", {id: "publish-data", spellcheck: "false"}, '{"text": "hello"}'), key = input("publish-key", {placeholder: "optional"});
    const hint = make("p", {class: "hint", id: "publish-hint", role: "status"});
    const say = (text, bad) => { hint.textContent = text; hint.className = bad ? "hint bad" : "hint"; };
    return make("form", {class: "card", onsubmit: async (event) => {
      event.preventDefault();
      try { JSON.parse(data.value); } catch { return say(`Not JSON. As a text it would be ${JSON.stringify(data.value).slice(0, 80)}`, true); }
      try {
        // As it was typed: JSON.parse would lose digits of large numbers.
        const fields = JSON.stringify({channel: name, idempotency_key: key.value}).slice(1, -1);
        const {offset} = await api("publish", `{${fields}, "data": ${data.value}}`);
        say(offset ? `Published at offset ${offset}.` : "Published.");
        const channel = await api("channel", {channel: name});
        this.drawFacts($("rule"), channel);
        return this.drawHistory(history, channel);
      } catch (error) {
        return say(error.message, true);
      }
    }}, make("h2", {}, "Publish"), make("label", {for: "publish-data"}, "Data (JSON)"), data, field("Idempotency key", key),
    make("p", {}, make("button", {class: "main", id: "publish"}, "Publish")), hint);
  },
};

function kept(history) { return history ? `${plural(history.size, "publication")}, ${duration(history.ttl)}` : "none"; }
