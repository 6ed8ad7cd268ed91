// Several of the browser's own EventSources, and what each has received.
window.streams = (url, count) => {
  window.seen = Array.from({ length: count }, () => {
    const source = new EventSource(url);
    const seen = { ids: [], events: [], state: () => source.readyState };
    source.onmessage = (e) => seen.ids.push(JSON.parse(e.data).record.id);
    for (const name of ["connected", "busy", "closing", "resync", "error"])
      source.addEventListener(name, (e) => seen.events.push([name, e.data ?? null]));
    return seen;
  });
};
window.report = () =>
  window.seen.map(({ ids, events, state }) => ({ state: state(), ids, events }));
