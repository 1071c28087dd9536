// One client of the public JavaScript library, driven over standard input and output, one JSON message a line.
//
// in:  {"id": 1, "do": "open", ...}        out: {"id": 1, "result": ...} or {"id": 1, "error": {"code", "message"}}
//      {"token": "..."}, in answer to           {"ask": "token"}
//                                               {"event": "connected", ...}, whenever the library tells its app something
//
// It ends when its input ends.

import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

let client;
let stream;
const askers = [];

const getToken = () =>
  new Promise((resolve) => {
    askers.push(resolve);
    say({ ask: "token" });
  });

function told(event, context) {
  const { channel = "", code = 0, reason = "", data, offset = 0, info, tags = {} } = context;
  const { wasRecovering = false, recovered = false, error } = context;
  say({
    event,
    channel,
    code: error ? error.code : code,
    reason: error ? error.message : reason,
    data,
    offset,
    user: info ? info.user : null,
    tags,
    was_recovering: wasRecovering,
    recovered,
  });
}

function tell(emitter, names) {
  for (const name of names) emitter.on(name, (context) => told(name, context));
}

const page = ({ publications, offset, epoch }) => ({
  items: publications.map((publication) => [publication.offset, publication.data]),
  offset,
  epoch,
});

const words = {
  open({ url, token, asks }) {
    const options = { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 500 };
    if (token) options.token = token;
    if (asks) options.getToken = getToken;
    client = new Centrifuge(url, options);
    tell(client, ["connecting", "connected", "disconnected", "error"]);
  },
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe({ channel, token, asks }) {
    let subscription = client.getSubscription(channel);
    if (subscription === null) {
      const options = { minResubscribeDelay: 50, maxResubscribeDelay: 500 };
      if (token) options.token = token;
      if (asks) options.getToken = getToken;
      subscription = client.newSubscription(channel, options);
      tell(subscription, ["subscribing", "subscribed", "unsubscribed", "publication", "error"]);
    }
    subscription.subscribe();
  },
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  publish: ({ channel, data }) => client.publish(channel, data),
  history: async ({ channel, options }) => page(await client.history(channel, options)),

  // A plain EventSource beside the library; `names` are the events to listen to.
  listen({ url, token, names }) {
    const authorised = (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
    stream = new EventSource(url, token ? { fetch: authorised } : {});
    stream.onopen = () => told("opened", {});
    stream.onerror = (event) => told("failed", { code: event.code, reason: event.message });
    const heard = ({ type, data, lastEventId }) => told(type, { data: JSON.parse(data), reason: lastEventId });
    for (const name of ["message", ...names]) stream.addEventListener(name, heard);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if ("token" in message && !("do" in message)) {
    askers.shift()(message.token);
    continue;
  }
  // Not awaited: a call may need what comes in later lines.
  Promise.resolve()
    .then(() => words[message.do](message))
    .then((result) => say({ id: message.id, result: result ?? null }))
    .catch(({ code = 0, message: text }) => say({ id: message.id, error: { code, message: text } }));
}
process.exit(0);
