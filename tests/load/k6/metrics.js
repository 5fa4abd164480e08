import { parentPort } from "node:worker_threads";

export class Counter {
  constructor(name) {
    this.name = name;
  }

  add(value) {
    parentPort.postMessage({ samples: [[this.name, value]] });
  }
}
