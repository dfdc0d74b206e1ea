/**
 * Which views are asked about, and when. About each at most one question is open, in all only a few, and what is in sight
 * comes first: a kernel that runs cells has better things to do than to answer for 200 of them at once.
 */

const MOST_OPEN = 6;
const AGAIN_MS = 1000;
const PROBE_MS = 3000;
const MOST_PROBES = 4;

export class Questions {
  /**
   * @param {(view: string) => void} send
   * @param {(view: string) => boolean} inSight
   */
  constructor(send, inSight) {
    this.send = send;
    this.inSight = inSight;
    /** @type {Map<string, number>} views to ask about, the first one first, and how often that was in vain */
    this.waiting = new Map();
    /** @type {Map<string, {times: number, changed: boolean, timer: ReturnType<typeof setTimeout>}>} */
    this.open = new Map();
    /** The kernel says nothing: only a few single questions try whether it is back. */
    this.mute = false;
    this.probes = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.probing = undefined;
  }

  /**
   * There is something new about a view. What changes while a question is open is asked for once more.
   * @param {string} view
   */
  ask(view) {
    const open = this.open.get(view);
    if (open) open.changed = true;
    else if (!this.waiting.has(view)) this.waiting.set(view, 0);
    if (!this.mute) this.next();
    else if (this.probing === undefined && !this.open.size) {
      this.probes = 0;
      this.probe();
    }
  }

  /**
   * The answer came.
   * @param {string} view
   */
  answered(view) {
    const open = this.open.get(view);
    if (!open) return;
    clearTimeout(open.timer);
    this.open.delete(view);
    if (open.changed) this.waiting.set(view, 0);
  }

  /** The kernel speaks: go on with what waits. */
  heard() {
    this.stopProbing();
    this.mute = false;
    this.probes = 0;
    this.next();
  }

  /** The kernel says nothing any more: what was asked is kept until it does. */
  silent() {
    for (const view of [...this.open.keys()]) this.giveBack(view);
    this.mute = true;
    this.stopProbing();
    if (this.probes < MOST_PROBES) this.probing = setTimeout(() => this.probe(), PROBE_MS * 2 ** this.probes);
  }

  stop() {
    this.stopProbing();
    for (const { timer } of this.open.values()) clearTimeout(timer);
    this.open.clear();
    this.waiting.clear();
  }

  probe() {
    this.probing = undefined;
    this.probes += 1;
    this.put(1);
  }

  stopProbing() {
    clearTimeout(this.probing);
    this.probing = undefined;
  }

  next() {
    this.put(MOST_OPEN);
  }

  /** @param {number} most open at a time */
  put(most) {
    while (this.open.size < most && this.waiting.size) {
      const views = [...this.waiting.keys()];
      const view = views.find(this.inSight) ?? views[0];
      const times = this.waiting.get(view) ?? 0;
      this.waiting.delete(view);
      const timer = setTimeout(() => this.again(view), AGAIN_MS * 2 ** times);
      this.open.set(view, { times, changed: false, timer });
      this.send(view);
    }
  }

  /**
   * No answer yet, though the kernel speaks: the question may wait behind the cells that run, since a page's first ones
   * go to the shell that runs them. It gives its place to the others, and is put again.
   * @param {string} view
   */
  again(view) {
    this.giveBack(view);
    if (!this.mute) this.next();
  }

  /** @param {string} view */
  giveBack(view) {
    const open = this.open.get(view);
    if (!open) return;
    clearTimeout(open.timer);
    this.open.delete(view);
    this.waiting.set(view, open.times + 1);
  }
}
