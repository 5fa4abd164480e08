// The guide's load test, for k6: chat completions, as many at a time as the stages say.
//
//     RESPOOL_URL=http://localhost:18080 MODEL=gpt-oss:20b k6 run deploy/load/load_test.js
//     k6 run --stage 10s:5,30s:10,10s:0 deploy/load/load_test.js                             a shorter one
//
// OPENAI_API_KEY is sent if it is set. The report goes to LOAD_REPORT (load_report.json), which `respool doctor`
// reads. See docs/load-testing.md.
import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";

const URL = `${__ENV.RESPOOL_URL || "http://localhost:18080"}/v1/chat/completions`;
const MODEL = __ENV.MODEL || "gpt-oss:20b";
const REPORT = __ENV.LOAD_REPORT || "load_report.json";
const KEY = __ENV.OPENAI_API_KEY;

/** @type {import("k6/options").Options} */
export const options = {
  stages: [
    { duration: "1m", target: 10 }, // Warming up.
    { duration: "5m", target: 50 }, // Under load.
    { duration: "1m", target: 0 }, // Cooling down.
  ],
  thresholds: { checks: ["rate==1"] }, // Or k6's exit status says that it failed.
  summaryTrendStats: ["med", "p(95)", "p(99)"],
};

const failures = new Counter("failures");

export default function () {
  const payload = JSON.stringify({
    model: MODEL,
    messages: [{ role: "user", content: "Hello" }],
    stream: false,
  });
  const res = http.post(URL, payload, {
    headers: {
      "Content-Type": "application/json",
      ...(KEY ? { Authorization: `Bearer ${KEY}` } : {}),
    },
    timeout: "300s", // k6's own is 60 s, in which a job that waits its turn may not have begun.
  });
  const isGood = check(res, {
    "status is 200": (r) => r.status === 200,
    "status is not 429": (r) => r.status !== 429,
  });
  if (!isGood) {
    failures.add(1);
  }
}

/**
 * The report as a file, and on standard output.
 * @param {{
 *   metrics: Record<string, { values: Record<string, number> } | undefined>,
 *   state: { testRunDurationMs: number },
 * }} data what k6 measured; a metric without a sample is not there
 */
export function handleSummary(data) {
  const { http_reqs: requests, http_req_duration: taken, failures: failed, vus_max } = data.metrics;
  const report = JSON.stringify(
    {
      tool: "k6",
      at: new Date().toISOString(),
      url: URL,
      model: MODEL,
      users: vus_max?.values.max ?? 0,
      seconds: data.state.testRunDurationMs / 1000,
      requests: requests?.values.count ?? 0,
      failures: failed?.values.count ?? 0,
      requests_per_second: requests?.values.rate ?? 0,
      median_ms: taken?.values.med ?? null,
      p95_ms: taken?.values["p(95)"] ?? null,
      p99_ms: taken?.values["p(99)"] ?? null,
    },
    null,
    2,
  );
  return { stdout: `${report}\n`, [REPORT]: `${report}\n` };
}
