// SWR fetches nothing on a server, which is how it takes a process without a window.
globalThis.window = globalThis;
