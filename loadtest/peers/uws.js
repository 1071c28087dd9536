// µWebSockets: topics and publish() do the fan-out in C++.
'use strict';
const uWS = require('@trufflesuite/uws-js-unofficial');

const port = Number(process.argv[2]);
const app = uWS.App();
const options = {
  compression: uWS.DISABLED,
  idleTimeout: 0,
  sendPingsAutomatically: false,
  maxBackpressure: 64 * 1024 * 1024,
  maxPayloadLength: 1024 * 1024,
};

app.ws('/subscribe', {
  ...options,
  message: (ws, message) => {
    ws.subscribe(Buffer.from(message).toString());
    ws.send('ok', false, false);
  },
});

app.ws('/publish', {
  ...options,
  message: (ws, message) => {
    const bytes = Buffer.from(message);
    const cut = bytes.indexOf(10);
    app.publish(bytes.toString('latin1', 0, cut), bytes.subarray(cut + 1), false, false);
  },
});

app.listen('127.0.0.1', port, (listening) => {
  if (!listening) process.exit(1);
});
