// What k6 does with a script, for tests where k6 cannot be had: `node run.mjs SCRIPT SECONDS USERS`.
//
// The script's own stages, all durations and numbers of users multiplied by these two. Modules of k6 are the
// files beside this one, as far as the script uses them. Exit status 99, as k6's, if a threshold is crossed.
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { MessageChannel, Worker } from "node:worker_threads";

const [path, ofSeconds, ofUsers] = process.argv.slice(2);
const script = pathToFileURL(resolve(path)).href;
globalThis.__ENV = process.env;
const { options, handleSummary } = await import(script);
const thresholds = options.thresholds?.checks ?? [];
if (thresholds.some((one) => one !== "rate==1")) {
  throw new Error(`of thresholds only rate==1 is understood here, not ${thresholds}`);
}

const samples = {}; // By metric.
const users = []; // What tells each of those that there are now to stop.
const ended = []; // Promises, of all that there ever were.

async function asked({ url, body, headers, timeout }) {
  const began = performance.now();
  try {
    const signal = AbortSignal.timeout(seconds(timeout) * 1000);
    const answer = await fetch(url, { method: "POST", body, headers, signal });
    await answer.arrayBuffer();
    return { status: answer.status };
  } catch {
    return { status: 0 }; // As k6 has it for no answer.
  } finally {
    note("http_req_duration", performance.now() - began);
  }
}

function start() {
  const { port1, port2: answers } = new MessageChannel();
  const isAnswered = new Int32Array(new SharedArrayBuffer(4));
  const isOver = new Int32Array(new SharedArrayBuffer(4));
  const workerData = { script, answers, isAnswered, isOver };
  const user = new Worker(new URL("./user.js", import.meta.url), { workerData, transferList: [answers] });
  user.on("message", async ({ ask, samples: some = [] }) => {
    some.forEach(([metric, value]) => note(metric, value));
    if (ask) {
      port1.postMessage(await asked(ask));
      Atomics.store(isAnswered, 0, 1);
      Atomics.notify(isAnswered, 0);
    }
  });
  ended.push(new Promise((whole, broken) => user.on("exit", whole).on("error", broken)));
  return isOver;
}

function be(many) {
  while (users.length < many) {
    users.push(start());
  }
  for (const isOver of users.splice(many)) {
    Atomics.store(isOver, 0, 1);
  }
}

const note = (metric, value) => (samples[metric] ??= []).push(value);
const seconds = (text) => Number.parseFloat(text) * (text.endsWith("m") ? 60 : 1);

const began = performance.now();
let [from, most] = [1, 0];
for (const { duration, target } of options.stages) {
  const [stage, to, ms] = [performance.now(), target * ofUsers, seconds(duration) * ofSeconds * 1000];
  for (let part = 0; part < 1; part = (performance.now() - stage) / ms) {
    const many = Math.max(1, Math.round(from + (to - from) * part));
    be(many);
    most = Math.max(most, many);
    await sleep(20);
  }
  from = to;
}
be(0);
await Promise.all(ended);

const runMs = performance.now() - began;
const counted = (count) => ({ values: { count, rate: count / (runMs / 1000) } });
const taken = (samples.http_req_duration ?? []).sort((one, other) => one - other);
const share = (stat) => (stat === "med" ? 0.5 : Number.parseFloat(stat.slice(2)) / 100);
const at = (stat) => taken[Math.min(taken.length - 1, Math.floor(share(stat) * taken.length))];
const metrics = { vus_max: { values: { value: most, min: most, max: most } } };
if (taken.length > 0) {
  metrics.http_reqs = counted(taken.length);
  const stats = options.summaryTrendStats.map((stat) => [stat, at(stat)]);
  metrics.http_req_duration = { values: Object.fromEntries(stats) };
}
if (samples.failures) {
  metrics.failures = counted(samples.failures.reduce((sum, value) => sum + value, 0));
}
const summary = handleSummary({ metrics, state: { testRunDurationMs: runMs } });
for (const [name, text] of Object.entries(summary)) {
  writeFileSync(name === "stdout" ? 1 : name, text);
}
const isCrossed = thresholds.length > 0 && !samples.checks?.every((held) => held);
process.exit(isCrossed ? 99 : 0);
