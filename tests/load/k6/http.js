// A call that returns with its answer, as k6's does: the runner asks, and this thread stands still meanwhile.
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";

function post(url, body, { headers, timeout }) {
  const { answers, isAnswered } = workerData;
  Atomics.store(isAnswered, 0, 0);
  parentPort.postMessage({ ask: { url, body, headers, timeout } });
  Atomics.wait(isAnswered, 0, 0);
  return receiveMessageOnPort(answers).message; // What k6 has besides a status is not looked at.
}

export default { post };
