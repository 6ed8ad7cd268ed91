// A Node server as one writes it with care: no framework, and one buffer for all streams.
//
//   GET  anything   an event stream, which begins with "event: connected"
//   POST anything   the body is an event, written to all streams
'use strict';
const http = require('http');

const streams = new Set();
const HEAD = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' };

function publish(request, response) {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const frame = Buffer.concat([Buffer.from('data: '), ...pieces, Buffer.from('\n\n')]);
    for (const stream of streams) stream.write(frame);
    response.writeHead(204).end();
  });
}

function subscribe(request, response) {
  request.socket.setNoDelay(true);
  response.writeHead(200, HEAD);
  response.write('event: connected\ndata: {}\n\n');
  streams.add(response);
  response.on('close', () => streams.delete(response));
}

const server = http.createServer((request, response) => {
  if (request.method === 'POST') publish(request, response);
  else subscribe(request, response);
});
server.keepAliveTimeout = server.headersTimeout = server.requestTimeout = 0;
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
