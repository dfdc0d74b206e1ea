/**
 * Schedules the requests for rows. Each view has at most one open request, only a few are open in total, and visible views
 * come first: a kernel that runs cells must not have to answer 200 requests at once.
 */

const MAX_OPEN = 6;
const RETRY_MS = 1000;
const PROBE_MS = 3000;
const MAX_PROBES = 4;

export class RowRequests {
  /**
   * @param {(view: string) => void} send
   * @param {(view: string) => boolean} isVisible
   */
  constructor(send, isVisible) {
    this.send = send;
    this.isVisible = isVisible;
    /** @type {Map<string, number>} views to request, the first one first, with their number of retries */
    this.queued = new Map();
    /** @type {Map<string, {retries: number, changed: boolean, timer: ReturnType<typeof setTimeout>}>} */
    this.open = new Map();
    /** The kernel does not respond: only a few single requests probe whether it is back. */
    this.paused = false;
    this.probes = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.probeTimer = undefined;
  }

  /**
   * Request a view that is new or has changed. A view that changes during its open request is requested once more.
   * @param {string} view
   */
  request(view) {
    const open = this.open.get(view);
    if (open) open.changed = true;
    else if (!this.queued.has(view)) this.queued.set(view, 0);
    if (!this.paused) this.sendQueued(MAX_OPEN);
    else if (this.probeTimer === undefined && !this.open.size) {
      this.probes = 0;
      this.probe();
    }
  }

  /**
   * The reply arrived.
   * @param {string} view
   */
  settle(view) {
    const open = this.open.get(view);
    if (!open) return;
    clearTimeout(open.timer);
    this.open.delete(view);
    if (open.changed) this.queued.set(view, 0);
  }

  /** The kernel responds: go on with the queue. */
  resume() {
    this.stopProbing();
    this.paused = false;
    this.probes = 0;
    this.sendQueued(MAX_OPEN);
  }

  /** The kernel does not respond: keep the open requests until it does. */
  pause() {
    for (const view of [...this.open.keys()]) this.requeue(view);
    this.paused = true;
    this.stopProbing();
    if (this.probes < MAX_PROBES) this.probeTimer = setTimeout(() => this.probe(), PROBE_MS * 2 ** this.probes);
  }

  stop() {
    this.stopProbing();
    for (const { timer } of this.open.values()) clearTimeout(timer);
    this.open.clear();
    this.queued.clear();
  }

  probe() {
    this.probeTimer = undefined;
    this.probes += 1;
    this.sendQueued(1);
  }

  stopProbing() {
    clearTimeout(this.probeTimer);
    this.probeTimer = undefined;
  }

  /** @param {number} limit of open requests */
  sendQueued(limit) {
    while (this.open.size < limit && this.queued.size) {
      const views = [...this.queued.keys()];
      const view = views.find(this.isVisible) ?? views[0];
      const retries = this.queued.get(view) ?? 0;
      this.queued.delete(view);
      const timer = setTimeout(() => this.retry(view), RETRY_MS * 2 ** retries);
      this.open.set(view, { retries, changed: false, timer });
      this.send(view);
    }
  }

  /**
   * The kernel responds, but not to this request. It may wait behind running cells, because the first requests of a page go
   * to the main shell. Let other requests pass and send it again later.
   * @param {string} view
   */
  retry(view) {
    this.requeue(view);
    if (!this.paused) this.sendQueued(MAX_OPEN);
  }

  /** @param {string} view */
  requeue(view) {
    const open = this.open.get(view);
    if (!open) return;
    clearTimeout(open.timer);
    this.open.delete(view);
    this.queued.set(view, open.retries + 1);
  }
}
