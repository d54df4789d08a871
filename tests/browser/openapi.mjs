// The page of the OpenAPI document in a real browser: what it shows, and what it sends.
//
//     node tests/browser/openapi.mjs CHROMIUM PORT [FOLDER]
//
// tests/apps/typed_handlers.py listens on PORT. Ends with status 0 if all is as it should be. With FOLDER, it leaves
// pictures there. `tests/browser/test_openapi_browser.py` calls it.

import assert from "node:assert/strict";

import { PATIENCE_MS, launch } from "./chromium.mjs";

const [executablePath, port, folder] = process.argv.slice(2);
const site = `http://127.0.0.1:${port}`;
const browser = await launch(executablePath);

/** A page that keeps to our server, and says what goes wrong in it. */
async function opened(options, path = "/docs") {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => message.type() === "error" && !/status of 4\d\d/.test(message.text()) && wrong.push(message.text()));
  page.on("request", (request) => request.url().startsWith(site) || request.url().startsWith("data:") || wrong.push(`asks ${request.url()}`));
  await page.goto(site + path);
  await page.locator("#operations:not([aria-busy])").waitFor();
  return { page, wrong };
}

const picture = (page, name) => folder && page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });

/** The operation of a method and a path, unfolded. */
async function unfolded(page, id) {
  const operation = page.locator(`[id="${id}"]`);
  if (!(await operation.getAttribute("open") !== null)) await operation.locator("summary").first().click();
  await operation.getByTestId("send").waitFor();
  return operation;
}

async function answer(operation, status) {
  await operation.getByTestId("send").click();
  await operation.getByTestId("status").filter({ hasText: String(status) }).waitFor();
  return operation.getByTestId("body");
}

const noSidewaysScrolling = (page) => page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);

try {
  const { page, wrong } = await opened({ colorScheme: "light" });
  assert.equal(await page.title(), "A shop");
  assert.match(await page.getByTestId("title").innerText(), /A shop\s*2\.1/);
  assert.deepEqual(await page.locator("h2").allInnerTexts(), ["orders", "people", "geometry", "Other"]);
  assert.equal(await page.getByTestId("operation").filter({ hasText: "/hidden" }).count(), 0);
  await picture(page, "light");

  // A request with a body, which begins as an example.
  const place = await unfolded(page, "orders.place");
  const body = place.getByTestId("request-body");
  assert.deepEqual(Object.keys(JSON.parse(await body.inputValue())), ["body", "lines", "colour"]);
  await body.fill(JSON.stringify({ body: "<b>not bold</b>", lines: [{ article: "shoes", count: 2 }] }));
  const placed = await answer(place, 201);
  const { number } = JSON.parse(await placed.innerText());
  assert.equal(await place.locator("b").count(), 0, "what comes back is text");
  await place.getByText("Headers and command").click();
  assert.match(await place.locator("pre").last().innerText(), /^curl -X POST -H 'content-type: application\/json' --data /);
  await picture(page, "placed");

  // Parameters of the path and the query; what is wrong is shown as it is told.
  const order = await unfolded(page, "orders.order");
  await order.getByTestId("send").click();
  await order.getByRole("alert").filter({ hasText: "number is required" }).waitFor();
  await order.getByLabel("number (path)").fill(String(number));
  assert.match(await (await answer(order, 200)).innerText(), /<b>not bold<\/b>/);
  await order.getByLabel("number (path)").fill("x");
  assert.match(await (await answer(order, 422)).innerText(), /must be a whole number/);
  const find = await unfolded(page, "orders.find");
  await find.getByLabel("colours (query)").fill("red\nblue");
  await find.getByLabel("sort (query)").selectOption("oldest");
  const found = JSON.parse(await (await answer(find, 200)).innerText());
  assert.deepEqual(found, { text: "", page: 1, colours: ["red", "blue"], sort: "oldest" });
  const file = await unfolded(page, "file");
  await file.getByLabel("path (path)").fill("a b/ü?");
  assert.equal(JSON.parse(await (await answer(file, 200)).innerText()).path, "a b/ü?");
  const heads = await unfolded(page, "heads");
  await heads.getByLabel("x-agent (header)").fill("me");
  assert.equal(JSON.parse(await (await answer(heads, 200)).innerText()).agent, "me");
  const stream = await unfolded(page, "stream");
  await stream.getByLabel("count (query)").fill("3");
  assert.equal(await (await answer(stream, 200)).innerText(), "0\n1\n2\n");
  assert.ok(await noSidewaysScrolling(page));

  // The filter.
  await page.getByLabel("Filter").fill("post orders");
  assert.deepEqual(await page.locator(".operation:visible .path").allInnerTexts(), ["/orders/"]);
  await page.getByLabel("Filter").fill("");
  assert.deepEqual(wrong, []);

  // With the keyboard alone.
  await page.getByLabel("Filter").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SUMMARY");

  // A link to one operation; on a phone, in the dark.
  const phone = await opened({ colorScheme: "dark", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }, "/docs#orders.change_line");
  const line = await unfolded(phone.page, "orders.change_line");
  await line.getByText("The body is too large").waitFor();
  assert.ok(await noSidewaysScrolling(phone.page), "all of it fits on a phone");
  await picture(phone.page, "phone");
  assert.deepEqual(phone.wrong, []);
  console.log("ok");
} catch (error) {
  console.log(error.stack);
  process.exitCode = 1;
} finally {
  await browser.close();
}
