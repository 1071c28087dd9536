/* Connections: who is connected where, and what can be done about it. */

const connections = {
  title: "Connections",

  open(view, {search = "", channel = ""}) {
    this.page = {search, channel};
    const who = input("search", {value: search, type: "search", placeholder: "user, or the beginning of a client id"});
    const on = input("search-channel", {value: channel, type: "search", placeholder: "exact name"});
    const form = make("form", {class: "tools", role: "search", onsubmit: (event) => {
      event.preventDefault();
      go("connections", {search: who.value.trim(), channel: on.value.trim()});
    }}, field("User or client", who), field("Subscribed to channel", on), make("button", {class: "main", id: "find"}, "Search"), make("span", {class: "spacer"}),
    button("Disconnect user…", () => this.disconnectUser(who.value.trim()), {class: "danger", id: "disconnect-user"}),
    button("Revoke tokens…", () => askRevoke(who.value.trim()).then((done) => done && this.load()), {class: "danger", id: "revoke"}));
    this.list = make("div", {class: "stack", id: "connections", "aria-live": "polite"}, empty("Looking…"));
    view.replaceChildren(make("div", {class: "stack"}, form, this.list));
    this.load();
  },

  async load(after = {}) {
    const asked = this.page, list = this.list;
    let found;
    try {
      found = await api("connections", {...asked, after});
    } catch (error) {
      return list.replaceChildren(problem(error.message));
    }
    if (asked !== this.page) return undefined;
    const begun = Object.values(after).some(Boolean);
    if (!found.connections.length) {
      const filtered = asked.search || asked.channel;
      return list.replaceChildren(empty("No connections", filtered ? "Nobody matches. Names are compared without regard to case." : "Nobody is connected to any node."),
        ...(begun ? [button("Back to the first", () => this.load())] : []));
    }
    const heads = ["User", "Client", "Node", "Transport", "Channels", ["Unread", "number"], "Token ends", ["", "actions"]];
    list.replaceChildren(table("connections-table", heads, found.connections.map((each) => this.row(each))),
      make("div", {class: "more"}, make("span", {id: "total"}, `${plural(found.connections.length, "connection")} of ${number(found.total)}`),
        begun && button("Back to the first", () => this.load()), found.after && button("Next", () => this.load(found.after), {id: "next"})));
    return undefined;
  },

  row({uid, connection: c}) {
    const chips = c.channels.map((name) => link("channels", {name}, name, {class: "chip"}));
    if (c.subscriptions > c.channels.length) chips.push(make("span", {class: "soft"}, `and ${number(c.subscriptions - c.channels.length)} more`));
    return make("tr", {},
      make("td", {class: "name"}, c.user ? link("connections", {search: c.user}, c.user) : make("span", {class: "soft"}, userName(""))),
      make("td", {class: "mono", title: c.client}, c.client.slice(0, 8)), make("td", {title: uid}, nameOf(uid)),
      make("td", {}, `${c.transport}, ${c.protocol}`), make("td", {}, make("div", {class: "chips"}, ...chips)),
      make("td", {class: "number"}, c.unread_bytes ? bytes(c.unread_bytes) : "–"), make("td", {}, c.expires_at ? moment(c.expires_at) : "never"),
      make("td", {class: "actions"}, c.user && link("live", {user: c.user}, "Live", {class: "button small", "aria-label": `What ${c.user} gets, live`}), " ",
        button("Disconnect", () => askDisconnect(c).then((done) => done && this.load()), {class: "small danger", "aria-label": `Disconnect ${c.client}`})));
  },

  async disconnectUser(user) {
    if (!user) return toast("Type the user's name first.", true);
    if (await askDisconnect({user})) this.load();
    return undefined;
  },
};
