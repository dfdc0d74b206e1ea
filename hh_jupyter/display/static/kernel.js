/** The conversation with the kernel. Messages are described in display/hub.py. */

/** @import { FromKernel, Model, ToKernel } from "./types.js" */

import { Pulse } from "./pulse.js";
import { Questions } from "./questions.js";

export class Kernel {
  /**
   * @param {Model} model of anywidget
   * @param {{told: Record<string, (message: FromKernel, buffers: DataView[]) => void>, silent: () => void, heard: () => void,
   *   version: (view: string) => string | null, inSight: (view: string) => boolean}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.count = 0;
    /** Nothing was heard yet. */
    this.deaf = true;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (reason: Error) => void}>} questions with one answer */
    this.requests = new Map();
    this.pulse = new Pulse(() => this.silent());
    this.questions = new Questions((view) => {
      this.pulse.expect();
      this.send({ type: "rows", view, have: page.version(view) });
    }, page.inSight);
    /** @type {(message: FromKernel, buffers?: DataView[]) => void} */
    this.onMessage = (message, buffers) => this.receive(message, buffers ?? []);
  }

  start() {
    this.model.on("msg:custom", this.onMessage);
  }

  stop() {
    this.model.off("msg:custom", this.onMessage);
    this.questions.stop();
    this.pulse.rest();
    this.rejectAll("closed");
  }

  /**
   * Ask for the rows of a view, sooner or later; the page is told them.
   * @param {string} view
   */
  ask(view) {
    this.questions.ask(view);
  }

  /**
   * A question with one answer.
   * @param {ToKernel} message
   * @returns {Promise<any>}
   */
  request(message) {
    this.count += 1;
    const number = this.count;
    return new Promise((resolve, reject) => {
      this.requests.set(number, { resolve, reject });
      this.pulse.expect();
      this.send({ ...message, number });
    });
  }

  /** @param {ToKernel} message */
  send(message) {
    try {
      this.model.send(message);
    } catch {
      // The kernel is gone: its silence is noticed.
    }
  }

  /**
   * @param {FromKernel} message
   * @param {DataView[]} buffers
   */
  receive(message, buffers) {
    this.deaf = false;
    this.pulse.heard();
    this.page.heard();
    if (message.type === "answer") {
      // Not enumerable: what is copied as JSON holds no images.
      if (buffers.length) Object.defineProperty(message.value, "images", { value: buffers });
      this.requests.get(message.number)?.resolve(message.value);
      this.requests.delete(message.number);
    } else {
      if (message.type === "rows") this.questions.answered(message.view);
      this.page.told[message.type]?.(message, buffers);
    }
    this.questions.heard();
    if (!this.questions.open.size && !this.requests.size) this.pulse.rest();
  }

  /** What the page says may arrive though it hears nothing itself: the kernel can give it another model then. */
  silent() {
    if (this.deaf) this.send({ type: "deaf" });
    this.questions.silent();
    this.page.silent();
    this.rejectAll("no answer");
  }

  /** @param {string} why */
  rejectAll(why) {
    for (const { reject } of this.requests.values()) reject(new Error(why));
    this.requests.clear();
  }
}
