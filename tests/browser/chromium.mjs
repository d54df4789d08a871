// What all stories need: Chromium, and patience.

import { chromium } from "playwright-core";

export const PATIENCE_MS = 20_000;

/** Chromium without a window, which asks nobody on the network for anything. */
export function launch(executablePath) {
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** What the condition gives, as soon as that is something. */
export async function until(what, condition, pauseMs = 25) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`After ${PATIENCE_MS / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
