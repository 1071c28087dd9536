/* Live: what is read from the log, as it is read. */

const MOST_SHOWN = 300;

const live = {
  title: "Live",

  open(view, {channel = "", user = ""}) {
    const pattern = input("live-channel", {value: channel, placeholder: "all, or a pattern: orders.#"});
    const who = input("live-user", {value: user, placeholder: "what this user gets or publishes"});
    this.text = input("live-text", {type: "search", placeholder: "among what is shown", oninput: () => this.sift()});
    const form = make("form", {class: "tools", onsubmit: (event) => { event.preventDefault(); go("live", {channel: pattern.value.trim(), user: who.value.trim()}); }},
      field("Channel or pattern", pattern), field("User", who), make("button", {class: "main", id: "follow"}, "Follow"), field("Find", this.text), make("span", {class: "spacer"}),
      this.pause = button("Pause", () => this.hold(), {"aria-pressed": "false", id: "pause"}), button("Clear", () => this.clear(), {id: "clear"}));
    this.status = make("span", {id: "live-status", class: "soft", role: "status"}, "Connecting…");
    this.lost = make("span", {id: "dropped", class: "pill warn", hidden: true});
    this.records = make("ul", {class: "records", id: "records"});
    this.nothing = empty("Nothing yet", "What is published from now on appears here.");
    view.replaceChildren(make("div", {class: "stack"}, form, make("div", {class: "row"}, this.status, this.lost),
      make("section", {class: "card live", tabindex: "0", "aria-label": "Records"}, this.nothing, this.records)));
    this.wanted = [channel || "all channels", user && `what ${user} gets or publishes`].filter(Boolean).join(", ");
    this.paused = false;
    this.missed = this.dropped = 0;
    this.listen(`admin/tail?${new URLSearchParams({channel, user})}`);
  },

  close() { this.source?.close(); },

  listen(url) {
    this.close();
    const source = this.source = new EventSource(url);
    source.addEventListener("begin", (event) => { this.status.textContent = `Reading the log at ${JSON.parse(event.data).node}: ${this.wanted}`; });
    source.addEventListener("records", (event) => {
      const {records, dropped} = JSON.parse(event.data);
      this.dropped = dropped;
      for (const record of records) this.add(record);
      this.tellLost();
    });
    source.addEventListener("end", () => { this.status.textContent = "The server has ended the stream; trying again."; });
    source.onerror = () => { if (source === this.source) this.failed(source, url); };
  },

  async failed(source, url) {
    this.status.textContent = "The stream is interrupted; trying again. What is published meanwhile is not shown.";
    if (source.readyState !== EventSource.CLOSED) return;
    // EventSource does not tell why; the same request does.
    const aborting = new AbortController();
    try {
      const response = await fetch(url, {signal: aborting.signal});
      if (response.status === LOGGED_OUT) return showLogin("The session is over. Log in again.");
      this.status.textContent = response.ok ? "The stream was refused for a moment: press Follow." : (await response.json()).message;
    } catch {
      this.status.textContent = "The server cannot be reached: press Follow to try again.";
    } finally {
      aborting.abort();
    }
  },

  add(record) {
    if (this.paused) { this.missed += 1; return; }
    const item = this.item(record);
    this.records.prepend(item);
    while (this.records.childElementCount > MOST_SHOWN) this.records.lastElementChild.remove();
    this.siftOne(item);
    this.nothing.hidden = true;
  },

  item(record) {
    const {offset, read_at: at, channels: names, fates, data, size_bytes: size, rejected} = record;
    const outcomes = (fates || []).map((fate) => (typeof fate === "number" ? `written to ${plural(fate, "connection")} here` : fate));
    const facts = [record.message_id && `id ${record.message_id}`, record.event && `type ${record.event}`, record.user && `from ${record.user}`,
      ...Object.entries(record.tags || {}).map(([tag, value]) => `${tag}=${value}`), ...new Set(outcomes), bytes(size)].filter(Boolean);
    return make("li", {class: rejected ? "new bad" : "new"},
      make("div", {class: "head"}, make("span", {}, clock(at)), make("span", {class: "channel"}, names.join(" ")), make("span", {}, `offset ${offset}`),
        ...facts.map((fact) => make("span", {}, fact)), link("explain", {offset}, "Explain")),
      rejected && make("div", {class: "why"}, `Not a publication: ${rejected}`), make("pre", {}, data.length < size && size > 2000 ? `${data}…` : data));
  },

  hold() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.pause.textContent = this.paused ? "Go on" : "Pause";
    this.tellLost();
  },

  /* What is not shown is never kept silent. */
  tellLost() {
    const parts = [this.dropped && `${plural(this.dropped, "record")} dropped: too many to show`, this.missed && `${number(this.missed)} while paused`].filter(Boolean);
    this.lost.hidden = !parts.length;
    this.lost.textContent = parts.join("; ");
  },

  clear() {
    this.records.replaceChildren();
    this.nothing.hidden = false;
  },

  sift() { for (const item of this.records.children) this.siftOne(item); },
  siftOne(item) { item.hidden = !item.textContent.toLowerCase().includes(this.text.value.toLowerCase()); },
};
