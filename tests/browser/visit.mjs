// Opens a page in a headless Chromium that reaches nothing but this machine, and plays a visitor.
//
//   node visit.mjs URL STEP...
//
// Each step is a JavaScript expression, evaluated in the page again and again until it is true. Prints what came of
// it as JSON: the text of the page, the hosts that it asked, and the errors that it reported.

import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const STEP_MS = 60_000;

const [url, ...steps] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(),
  headless: "shell",
  args: [
    "--no-sandbox", // which does not work for root
    "--no-zygote",
    "--single-process",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
});
try {
  const page = await browser.newPage();
  const hosts = new Set();
  const errors = [];
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== "data:") hosts.add(host);
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => line.type() === "error" && errors.push(line.text()));
  await page.goto(url);
  for (const step of steps) {
    try {
      await page.waitForFunction(step, { timeout: STEP_MS });
    } catch (error) {
      errors.push(`${step}: ${error}`);
      break;
    }
  }
  const text = await page.evaluate("document.body.innerText");
  console.log(JSON.stringify({ text, hosts: [...hosts], errors }));
} finally {
  await browser.close();
}
