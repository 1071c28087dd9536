// Socket.IO: rooms; the adapter encodes a publication once for all members of a room.
'use strict';
const http = require('http');
const { Server } = require('socket.io');

const port = Number(process.argv[2]);
const server = http.createServer();
const io = new Server(server, {
  transports: ['websocket'],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

io.on('connection', (socket) => {
  // As the documentation advises for many connections: let go of the first HTTP request.
  socket.conn.request = null;
  socket.on('subscribe', (channel, done) => {
    socket.join(channel);
    done('ok');
  });
  socket.on('unsubscribe', (channel, done) => {
    socket.leave(channel);
    done('ok');
  });
  socket.on('publish', (channel, data) => io.to(channel).emit('m', data));
});

server.listen({ port, host: '127.0.0.1', backlog: 4096 });
