/** The connection to the kernel. display/hub.py describes the messages. */

/** @import { FromKernel, Model, ToKernel } from "./types.js" */

import { RowRequests } from "./requests.js";
import { Watchdog } from "./watchdog.js";

export class Kernel {
  /**
   * @param {Model} model of anywidget
   * @param {{handlers: Record<string, (message: FromKernel, buffers: DataView[]) => void>, unresponsive: () => void,
   *   responsive: () => void, version: (view: string) => string | null, isVisible: (view: string) => boolean}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.count = 0;
    /** No message has arrived yet. */
    this.silent = true;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (reason: Error) => void}>} numbered requests */
    this.pending = new Map();
    this.watchdog = new Watchdog(() => this.timeout());
    this.rowRequests = new RowRequests((view) => {
      this.watchdog.start();
      this.send({ type: "rows", view, have: page.version(view) });
    }, page.isVisible);
    /** @type {(message: FromKernel, buffers?: DataView[]) => void} */
    this.onMessage = (message, buffers) => this.receive(message, buffers ?? []);
  }

  start() {
    this.model.on("msg:custom", this.onMessage);
  }

  stop() {
    this.model.off("msg:custom", this.onMessage);
    this.rowRequests.stop();
    this.watchdog.stop();
    this.rejectAll("closed");
  }

  /**
   * Request the rows of a view when there is capacity. The `rows` handler receives them.
   * @param {string} view
   */
  requestRows(view) {
    this.rowRequests.request(view);
  }

  /**
   * Send a request and return its reply.
   * @param {ToKernel} message
   * @returns {Promise<any>}
   */
  request(message) {
    this.count += 1;
    const number = this.count;
    return new Promise((resolve, reject) => {
      this.pending.set(number, { resolve, reject });
      this.watchdog.start();
      this.send({ ...message, number });
    });
  }

  /** @param {ToKernel} message */
  send(message) {
    try {
      this.model.send(message);
    } catch {
      // The kernel is gone: the watchdog notices.
    }
  }

  /**
   * @param {FromKernel} message
   * @param {DataView[]} buffers
   */
  receive(message, buffers) {
    this.silent = false;
    this.watchdog.reset();
    this.page.responsive();
    if (message.type === "answer") {
      // Not enumerable: JSON copies of the value contain no images.
      if (buffers.length) Object.defineProperty(message.value, "images", { value: buffers });
      this.pending.get(message.number)?.resolve(message.value);
      this.pending.delete(message.number);
    } else {
      if (message.type === "rows") this.rowRequests.settle(message.view);
      this.page.handlers[message.type]?.(message, buffers);
    }
    this.rowRequests.resume();
    if (!this.rowRequests.open.size && !this.pending.size) this.watchdog.stop();
  }

  /** A page that receives nothing may still be able to send: then the kernel can create another model for it. */
  timeout() {
    if (this.silent) this.send({ type: "reopen" });
    this.rowRequests.pause();
    this.page.unresponsive();
    this.rejectAll("no reply");
  }

  /** @param {string} reason */
  rejectAll(reason) {
    for (const { reject } of this.pending.values()) reject(new Error(reason));
    this.pending.clear();
  }
}
