/**
 * Whether the kernel answers. Silence is counted in ticks, not in time: while the page itself is busy none passes, and
 * what lies unread by then is not held against the kernel.
 */

const TICK_MS = 250;
const PATIENCE = 8;

export class Pulse {
  /** @param {() => void} silent something was expected, and for a while nothing at all was heard */
  constructor(silent) {
    this.silent = silent;
    this.missed = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** An answer is expected. */
  expect() {
    this.timer ??= setTimeout(() => this.tick(), TICK_MS);
  }

  /** The kernel said something, whatever it was: it lives. */
  heard() {
    this.missed = 0;
  }

  /** Nothing is expected any more. */
  rest() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.missed = 0;
  }

  tick() {
    this.missed += 1;
    const silent = this.missed > PATIENCE;
    if (silent) this.rest();
    this.timer = undefined;
    if (silent) this.silent();
    else this.expect();
  }
}
