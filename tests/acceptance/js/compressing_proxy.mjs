// A proxy as Node developers write it, which compresses all it can. Prints its port.
//
//   node compressing_proxy.mjs GATEWAY_URL

import compression from "compression";
import express from "express";
import { createProxyMiddleware } from "http-proxy-middleware";

const [target] = process.argv.slice(2);
const app = express();
app.use(compression({ threshold: 0 }));
app.get("/text", (_, response) => response.type("text/plain").send("text"));
app.use(createProxyMiddleware({ target, changeOrigin: true }));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
