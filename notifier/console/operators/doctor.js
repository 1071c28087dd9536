/* Doctor: what is wrong with the set-up, and how to mend it. */

const LEVELS = {ok: "good", warn: "warn", fail: "bad"};

const doctor = {
  title: "Doctor",
  answer: null,

  open(view) {
    this.run = button("Examine", () => this.examine(), {class: "main", id: "examine"});
    this.list = make("section", {class: "card", id: "findings", "aria-live": "polite"});
    view.replaceChildren(make("div", {class: "row"}, make("span", {class: "soft"}, "Looks at the configuration, the machine, the broker, Redis, keys and certificates, as notifier doctor does."), make("span", {class: "spacer"}), this.run), this.list);
    this.show();
  },

  show() {
    if (!this.answer) return this.list.replaceChildren(empty("Not examined yet", "It takes some seconds and changes nothing."));
    const {node, findings, at} = this.answer, order = ["fail", "warn", "ok"];
    const bad = findings.filter(({level}) => level !== "ok").length;
    const sorted = [...findings].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
    return this.list.replaceChildren(
      make("div", {class: "row"}, make("h2", {}, bad ? plural(bad, "finding") : "All is well"), make("span", {class: "soft"}, `from ${node}, ${clock(at)}`)),
      ...sorted.map(({topic, level, text, fix}) => make("div", {class: "finding"}, make("div", {}, pill(level, LEVELS[level])),
        make("div", {}, make("strong", {}, topic), ` ${text}`), fix && make("div", {class: "fix"}, `To mend it: ${fix}`))));
  },

  async examine() {
    this.run.disabled = true;
    this.list.replaceChildren(empty("Examining…", "Each part gets up to 20 seconds."));
    const answer = await attempt(() => api("doctor"));
    if (answer) this.answer = {...answer, at: Date.now() / 1000};
    this.run.disabled = false;
    this.show();
  },
};
