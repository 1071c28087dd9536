"use strict";
/* What all views use: elements, requests, words for numbers. Texts from outside only ever become text nodes. */

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/* An element. Attributes that begin with "on" are listeners, true stands alone, false and undefined are left out. */
function make(tag, attributes, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const LOGGED_OUT = 401;
let didSomething = true;
for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => { didSomething = true; }, true);

/* The result of a method below /admin/api/. `body` may be JSON already. Throws ApiError. */
async function api(method, body = {}) {
  const headers = {"X-Notifier-Console": didSomething ? "active" : "watching", "Content-Type": "application/json"};
  didSomething = false;
  let response, answer;
  try {
    response = await fetch(`admin/api/${method}`, {method: "POST", headers, body: typeof body === "string" ? body : JSON.stringify(body)});
    answer = await response.json();
  } catch (error) {
    throw new ApiError(response ? `the server answered ${response.status}` : "the server cannot be reached", response?.status || 0);
  }
  if (response.status === LOGGED_OUT && method !== "login") showLogin("The session is over. Log in again.");
  if (!response.ok) throw new ApiError(answer.message, response.status);
  if (answer.error) throw new ApiError(answer.error.message, 200, answer.error.code);
  return answer.result;
}

function toast(text, bad = false) {
  const element = make("div", {class: bad ? "toast bad" : "toast"}, text);
  $("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 9000 : 5000);
}

/* Do something that may fail, and say so. */
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== LOGGED_OUT) toast(error.message, true);
    return undefined;
  }
}

function empty(title, text) {
  return make("div", {class: "empty"}, make("strong", {}, title), text || "");
}

function problem(text) { return make("div", {class: "problem", role: "alert"}, text); }

function pill(text, kind = "") { return make("span", {class: `pill ${kind}`}, text); }

function field(label, input) { return make("label", {}, label, input); }

function input(id, attributes = {}) {
  return make("input", {id, autocomplete: "off", spellcheck: "false", autocapitalize: "none", maxlength: "255", ...attributes});
}

function table(id, heads, rows) {
  const cells = heads.map((head) => (typeof head === "string" ? make("th", {scope: "col"}, head) : make("th", {scope: "col", class: head[1]}, head[0])));
  return make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": id},
    make("table", {id}, make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...rows)));
}

function button(text, onclick, attributes = {}) { return make("button", {type: "button", onclick, ...attributes}, text); }

/* --- words for numbers -------------------------------------------------------------------------------------------- */

const grouped = new Intl.NumberFormat("en");

function number(value) {
  if (value === undefined || value === null || !Number.isFinite(value)) return "–";
  return grouped.format(value >= 100 || Number.isInteger(value) ? Math.round(value) : value >= 10 ? +value.toFixed(1) : +value.toPrecision(2));
}

function compact(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const [size, unit] = [[1e9, "G"], [1e6, "M"], [1e4, "k"]].find(([from]) => value >= from) || [1, ""];
  return unit ? `${+(value / (unit === "k" ? 1e3 : size)).toPrecision(3)}${unit}` : number(value);
}

function bytes(value) {
  const [size, unit] = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]].find(([from]) => value >= from) || [1, "B"];
  return `${number(value / size)} ${unit}`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const [size, unit] = parts[at], next = parts[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

function latency(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  return seconds >= 1 ? `${number(seconds)} s` : `${number(seconds * 1000)} ms`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const moment = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const userName = (user) => user || "(no user)";

function link(view, parameters, text, attributes = {}) {
  return make("a", {href: address(view, parameters), ...attributes}, text);
}

function address(view, parameters = {}) {
  const filled = Object.entries(parameters).filter(([, value]) => value);
  return `#${view}${filled.length ? `?${new URLSearchParams(filled)}` : ""}`;
}
