// ws: the broadcast of its own documentation, over the clients of one channel.
'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const port = Number(process.argv[2]);
const channels = new Map();
const server = http.createServer();
const wss = new WebSocketServer({
  server,
  backlog: 4096,
  perMessageDeflate: false,
  clientTracking: false,
  skipUTF8Validation: true,
});

function publish(message) {
  const cut = message.indexOf(10);
  const members = channels.get(message.toString('latin1', 0, cut));
  if (!members) return;
  const data = message.subarray(cut + 1);
  for (const client of members) client.send(data, { binary: false });
}

function subscribe(client, name) {
  if (!channels.has(name)) channels.set(name, new Set());
  const members = channels.get(name);
  members.add(client);
  client.on('close', () => members.delete(client));
  client.send('ok');
}

wss.on('connection', (client, request) => {
  client.on('message', request.url === '/publish' ? publish : (message) => subscribe(client, message.toString()));
});

server.listen({ port, host: '127.0.0.1', backlog: 4096 });
