// Many streams of the npm package "eventsource". Each line "report" on standard input is answered
// by one JSON line: for each stream its readyState, and the ids of the records it has received.
//
//   node event_sources.mjs URL COUNT

import { createInterface } from "node:readline";
import { EventSource } from "eventsource";

const [url, count] = process.argv.slice(2);
const streams = Array.from({ length: Number(count) }, () => {
  const source = new EventSource(url);
  const seen = { source, ids: [], events: [] };
  source.onmessage = (e) => seen.ids.push(JSON.parse(e.data).record.id);
  for (const name of ["connected", "busy", "closing", "resync", "error"])
    source.addEventListener(name, (e) => seen.events.push([name, e.data ?? e.code ?? null]));
  return seen;
});

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "report")
    console.log(
      JSON.stringify(
        streams.map(({ source, ids, events }) => ({ state: source.readyState, ids, events })),
      ),
    );
}
process.exit(0);
