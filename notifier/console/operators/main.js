/* Logging in and out, and which view is open. */

const VIEWS = {overview, connections, channels, live, explain, doctor};
let current = null, operator = null;

function go(view, parameters) {
  const hash = address(view, parameters);
  if (location.hash === hash) route();
  else location.hash = hash;
}

function route() {
  if (!operator) return;
  const [name, query] = location.hash.slice(1).split("?");
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : overview;
  current?.close?.();
  current = view;
  for (const a of document.querySelectorAll("nav a")) {
    if (VIEWS[a.hash.slice(1)] === view) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  document.title = `${view.title} · notifier`;
  scrollTo(0, 0);
  view.open($("view"), Object.fromEntries(new URLSearchParams(query || "")));
}

function showLogin(text = "") {
  current?.close?.();
  current = operator = null;
  snapshots.length = 0;
  lastSeen.clear();
  doctor.answer = null;
  $("view").replaceChildren();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  $("console").hidden = true;
  $("login").hidden = false;
  $("login-hint").textContent = text;
  $($("login-name").value ? "login-password" : "login-name").focus();
}

function showConsole(who) {
  operator = who;
  $("login").hidden = true;
  $("console").hidden = false;
  $("who").textContent = who.name;
  route();
  poll();
}

let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  while (operator) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, POLL_S * 1000));
  }
  polling = false;
}

async function look() {
  try {
    const {nodes} = await api("nodes");
    if (!operator) return;
    remember(nodes);
    $("state").textContent = "";
    if (current === overview) overview.refresh();
  } catch (error) {
    if (error.status !== LOGGED_OUT) $("state").textContent = error.message;
  }
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-button").disabled = true;
  $("login-hint").textContent = "";
  try {
    const who = await api("login", {name: $("login-name").value.trim(), password: $("login-password").value});
    $("login-password").value = "";
    showConsole(who);
    $("view").focus({preventScroll: true});
  } catch (error) {
    $("login-hint").textContent = error.message;
  } finally {
    $("login-button").disabled = false;
  }
});

$("logout").addEventListener("click", async () => {
  await attempt(() => api("logout"));
  showLogin();
});

addEventListener("hashchange", route);
addEventListener("resize", () => { if (current === overview && snapshots.length) overview.refresh(); });

api("session").then((who) => (who ? showConsole(who) : showLogin()), (error) => showLogin(error.message));
