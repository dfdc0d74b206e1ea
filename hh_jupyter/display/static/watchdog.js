/**
 * Detects a kernel that does not respond. Silence is counted in timer ticks, not in time: a busy page runs no ticks, so
 * that messages it has not read yet do not count as missing.
 */

const TICK_MS = 250;
const MAX_MISSED_TICKS = 8;

export class Watchdog {
  /** @param {() => void} onTimeout a message was expected, and none has arrived for a while */
  constructor(onTimeout) {
    this.onTimeout = onTimeout;
    this.missed = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Start to expect a message. */
  start() {
    this.timer ??= setTimeout(() => this.tick(), TICK_MS);
  }

  /** A message arrived, whichever: the kernel is alive. */
  reset() {
    this.missed = 0;
  }

  /** No message is expected any more. */
  stop() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.missed = 0;
  }

  tick() {
    this.missed += 1;
    const timedOut = this.missed > MAX_MISSED_TICKS;
    if (timedOut) this.stop();
    this.timer = undefined;
    if (timedOut) this.onTimeout();
    else this.start();
  }
}
