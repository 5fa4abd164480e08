import { parentPort } from "node:worker_threads";

export function check(value, conditions) {
  const held = Object.values(conditions).map((holds) => Boolean(holds(value)));
  parentPort.postMessage({ samples: held.map((isSo) => ["checks", Number(isSo)]) });
  return held.every((isSo) => isSo);
}
