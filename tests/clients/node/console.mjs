// Opens the console in a real browser: light, dark and on a phone, with and without JavaScript, by keyboard, and with
// axe on every page. Prints what it found as JSON; the test judges.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import axe from "@axe-core/playwright";
import { chromium } from "playwright-core";

const AxeBuilder = axe.default ?? axe;
const { CONSOLE, TOKEN, RECORD, KEEP } = process.env;
const record = `/console/request?id=${RECORD}`;
const pages = {
  overview: "/console",
  failures: "/console/failures",
  requests: "/console/requests",
  story: record,
  workloads: "/console/workloads",
  workload: "/console/workload?name=qa%2Fnightly-dashboard",
  "who-can": "/console/who-can?method=POST&url=https%3A%2F%2Fslack.com%2Fapi%2Fchat.postMessage",
  credentials: "/console/credentials",
  credential: "/console/credential?name=qa%2Fslack-bot",
  revisions: "/console/revisions",
  review: "/console/review",
  missing: "/console/nothing",
};
const views = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 780 }, isMobile: true, deviceScaleFactor: 2 },
  "phone-dark": { colorScheme: "dark", viewport: { width: 360, height: 780 }, isMobile: true, deviceScaleFactor: 2 },
};
const found = { axe: [], overflow: [], errors: [], statuses: {}, checks: {} };

if (KEEP) {
  mkdirSync(KEEP, { recursive: true });
}
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

const opened = async (options) => {
  const context = await browser.newContext({ baseURL: CONSOLE, ...options });
  const page = await context.newPage();
  page.on("console", (message) => {
    // A page that is not there is told of here too.
    if (message.type() === "error" && !message.text().includes("status of 4")) {
      found.errors.push(`${page.url()}: ${message.text()}`);
    }
  });
  page.on("pageerror", (error) => found.errors.push(`${page.url()}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(CONSOLE) && !request.url().startsWith("data:")) {
      found.errors.push(`asked elsewhere: ${request.url()}`);
    }
  });
  return page;
};

// The token is entered once.
const logIn = async (page) => {
  await page.goto("/console/review");
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Access review" }).waitFor();
};

const judged = async (page, name) => {
  const { violations } = await new AxeBuilder({ page }).analyze();
  for (const { id, impact, nodes } of violations) {
    if (impact === "serious" || impact === "critical") {
      found.axe.push(`${name}: ${id} (${impact}) at ${nodes[0].target}: ${nodes[0].failureSummary}`);
    }
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth) - page.viewportSize().width;
  if (wide > 0) {
    found.overflow.push(`${name}: ${wide} px`);
  }
};

for (const [view, options] of Object.entries(views)) {
  const page = await opened(options);
  await page.goto("/console");
  await judged(page, `${view} login`);
  await logIn(page);
  for (const [name, path] of Object.entries(pages)) {
    const answer = await page.goto(path);
    found.statuses[name] = answer.status();
    await judged(page, `${view} ${name}`);
    if (KEEP && (["overview", "story", "review"].includes(name) || view === "light" || view === "phone")) {
      await page.screenshot({ path: join(KEEP, `console-${name}-${view}.png`), fullPage: name !== "overview" });
    }
  }
  if (view === "light") {
    await page.goto("/console/revisions");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.getByRole("heading", { name: "What is permitted differently" }).waitFor();
    found.checks.diff = await page.locator("main").innerText();
    await judged(page, "light diff");
    if (KEEP) {
      await page.screenshot({ path: join(KEEP, "console-diff-light.png"), fullPage: true });
    }
  }
  await page.context().close();
}

// Without JavaScript: the same answers, and the search finds a request.
{
  const page = await opened({ javaScriptEnabled: false });
  await logIn(page);
  await page.goto("/console");
  found.checks.headline = await page.locator("h1").innerText();
  found.checks.actions = await page.locator(".finding .do dd").allInnerTexts();
  await page.getByLabel("Request id").fill(RECORD);
  await page.getByRole("button", { name: "Find" }).click();
  found.checks.story = await page.locator("main").innerText();
  await page.context().close();
}

// By keyboard: the first stop leads past the navigation, and the focus is seen.
{
  const page = await opened(views.light);
  await logIn(page);
  await page.goto("/console");
  await page.keyboard.press("Tab");
  found.checks.skip = await page.evaluate(() => document.activeElement.textContent);
  found.checks.outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  await page.keyboard.press("Enter");
  found.checks.skipped = await page.evaluate(() => document.activeElement.id);
  const stops = [];
  for (let stop = 0; stop < 4; stop += 1) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate(() => Boolean(document.activeElement.closest("main"))));
  }
  found.checks.stops = stops;
  await page.context().close();
}

// Live: the page asks again by itself, until it is told to pause. The browser's clock is moved, nobody waits.
{
  const page = await opened(views.light);
  await page.clock.install();
  await logIn(page);
  await page.goto("/console");
  const again = page.waitForResponse((answer) => answer.url().endsWith("/console"));
  await page.clock.fastForward(11_000);
  found.checks.live = (await again).status();
  await page.getByText("Updates every 10 seconds.").waitFor();
  await page.getByRole("button", { name: "Pause updates" }).click();
  let asked = 0;
  page.on("request", () => {
    asked += 1;
  });
  await page.clock.fastForward(60_000);
  await page.getByText("Paused.").waitFor();
  found.checks.paused = asked;
  await page.context().close();
}

await browser.close();
console.log(JSON.stringify(found));
