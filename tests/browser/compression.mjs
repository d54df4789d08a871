// permessage-deflate between a real browser and the real server.
//
//     node tests/browser/compression.mjs CHROMIUM PORT
//
// The server of tests/apps/deflate.py listens on PORT. Prints what went well, and ends with
// status 0. `tests/browser/test_compression_browser.py` calls it.

import assert from "node:assert/strict";

import { PATIENCE_MS, launch } from "./chromium.mjs";

const [executablePath, port] = process.argv.slice(2);
const AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/** In the page: sends each text, and its bytes, and says how what came back differs. */
async function converse([path, texts]) {
  const socket = new WebSocket(`ws://${location.host}${path}`);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("not opened"));
  });
  const differences = [];
  const answered = (sent) =>
    new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => {
        const text = typeof data === "string" ? data : new TextDecoder().decode(data);
        if ((typeof data === "string") !== (typeof sent === "string")) differences.push("another kind");
        else if (text !== (typeof sent === "string" ? sent : new TextDecoder().decode(sent)))
          differences.push(`${text.length} other characters`);
        resolve();
      };
      socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
      socket.send(sent);
    });
  for (const text of texts) {
    await answered(text);
    await answered(new TextEncoder().encode(text));
  }
  socket.onclose = null;
  socket.close(1000);
  return { extensions: socket.extensions, differences };
}

const browser = await launch(executablePath);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`http://127.0.0.1:${port}/`);
  const noise = Array.from({ length: 5000 }, (_, i) => String.fromCodePoint(0x4e00 + ((i * i * 31) % 20000)));
  const texts = ["", "short", "grüß euch alle, ".repeat(20), "x".repeat(500_000), noise.join("")];
  for (const path of ["/echo", "/turbo", "/relay/browser"]) {
    const { extensions, differences } = await page.evaluate(converse, [path, texts]);
    assert.equal(extensions, AGREED, path);
    assert.deepEqual(differences, [], path);
    console.log(`ok   ${path} with ${extensions}`);
  }
  const plain = await page.evaluate(converse, ["/plain/browser", texts]);
  assert.deepEqual(plain, { extensions: "", differences: [] });
  console.log("ok   a route without compression");
} finally {
  await browser.close();
}
