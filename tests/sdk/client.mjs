// Clients of the public JavaScript library, each driven over a connection to the Unix socket that the argument names, one
// JSON message a line.
//
// in:  {"id": 1, "do": "open", ...}        out: {"id": 1, "result": ...} or {"id": 1, "error": {"code", "message"}}
//      {"answer": ...}, to                      {"ask": "token" or "state", "channel": "..."}
//                                               {"event": "connected", ...}, whenever the library tells its app something
//
// A client ends with its connection, all of it when the standard input ends.

import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { Centrifuge as CentrifugeInProtobuf } from "centrifuge/build/protobuf";
import { EventSource } from "eventsource";
import WebSocket from "ws";

async function serve(connection) {
  const say = (message) => connection.write(JSON.stringify(message) + "\n");

  let client;
  let inProtobuf = false;
  let stream;
  const askers = [];

  const ask = (what, channel = "") =>
    new Promise((resolve) => {
      askers.push(resolve);
      say({ ask: what, channel });
    });

  // With Protobuf an app makes and reads its own bytes; no bytes are how it says that there is nothing.
  const packed = (data) => (inProtobuf ? new TextEncoder().encode(JSON.stringify(data)) : data);

  function plain(data) {
    if (!(data instanceof Uint8Array)) return data;
    return data.length ? JSON.parse(new TextDecoder().decode(data)) : undefined;
  }

  const shown = ({ client, user, connInfo, chanInfo }) => ({
    client,
    user,
    conn_info: plain(connInfo) ?? null,
    chan_info: plain(chanInfo) ?? null,
  });

  function told(event, context) {
    const { channel = "", code = 0, reason = "", data, offset = 0, info, tags = {}, client = "" } = context;
    const { wasRecovering = false, recovered = false, error } = context;
    say({
      event,
      channel,
      code: error ? error.code : code,
      reason: error ? error.message : reason,
      data: plain(data),
      offset,
      client,
      user: null,
      ...(info ? shown(info) : {}),
      tags,
      was_recovering: wasRecovering,
      recovered,
    });
  }

  function tell(emitter, names) {
    for (const name of names) emitter.on(name, (context) => told(name, context));
  }

  const page = ({ publications, offset, epoch }) => ({
    items: publications.map((publication) => [publication.offset, plain(publication.data)]),
    offset,
    epoch,
  });

  const ofSubscriptions = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave"];

  const words = {
    open({ url, token, asks, transport, protobuf, emulation }) {
      const options = { websocket: WebSocket, eventsource: EventSource, minReconnectDelay: 50, maxReconnectDelay: 500 };
      if (emulation) options.emulationEndpoint = emulation;
      if (token) options.token = token;
      if (asks) options.getToken = () => ask("token");
      inProtobuf = protobuf;
      const Client = protobuf ? CentrifugeInProtobuf : Centrifuge;
      client = new Client(transport === "websocket" ? url : [{ transport, endpoint: url }], options);
      tell(client, ["connecting", "connected", "disconnected", "error", ...ofSubscriptions]);
    },
    connect: () => client.connect(),
    disconnect: () => client.disconnect(),
    subscribe({ channel, token, asks, joinLeave, delta, tags, state }) {
      let subscription = client.getSubscription(channel);
      if (subscription === null) {
        const options = { minResubscribeDelay: 50, maxResubscribeDelay: 500, joinLeave };
        if (token) options.token = token;
        if (asks) options.getToken = () => ask("token", channel);
        if (delta) options.delta = "fossil";
        if (tags) options.tagsFilter = tags;
        if (state) options.getState = () => ask("state", channel);
        subscription = client.newSubscription(channel, options);
        tell(subscription, ["error", ...ofSubscriptions]);
      }
      subscription.subscribe();
    },
    unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
    publish: ({ channel, data }) => client.publish(channel, packed(data)),
    history: async ({ channel, options }) => page(await client.history(channel, options)),
    async presence({ channel }) {
      const { clients } = await client.presence(channel);
      return Object.fromEntries(Object.entries(clients).map(([id, info]) => [id, shown(info)]));
    },
    async presenceStats({ channel }) {
      const { numClients, numUsers } = await client.presenceStats(channel);
      return [numClients, numUsers];
    },
    rpc: async ({ method, data }) => plain((await client.rpc(method, packed(data))).data),
    send: ({ data }) => client.send(packed(data)),
    patches: ({ channel }) => client.getSubscription(channel).deltaStats().numDeltaPayloads,

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

  for await (const line of createInterface({ input: connection })) {
    const message = JSON.parse(line);
    if ("answer" in message) {
      askers.shift()(message.answer);
      continue;
    }
    // Not awaited: a call may need what comes in later lines.
    Promise.resolve()
      .then(() => words[message.do](message))
      .then((result) => say({ id: message.id, result: result ?? null }))
      .catch(({ code = 0, message: text }) => say({ id: message.id, error: { code, message: text } }));
  }
  client?.disconnect();
  stream?.close();
  connection.end();
}

createServer({ allowHalfOpen: true }, serve).listen(process.argv[2], () => process.stdout.write("ready\n"));
process.stdin.on("end", () => process.exit(0)).resume();
