// One of k6's virtual users: the script's default function, again and again.
import { workerData } from "node:worker_threads";

globalThis.__ENV = process.env;
const { default: iterate } = await import(workerData.script);
do {
  iterate();
} while (!Atomics.load(workerData.isOver, 0));
