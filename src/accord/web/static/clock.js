// How long the item was in front of somebody: time with the page hidden does not count.
export class Clock {
  #before = 0;
  #since = null;

  constructor() {
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.#go()));
  }

  start(milliseconds = 0) {
    this.#before = milliseconds;
    this.#since = document.hidden ? null : performance.now();
  }

  get milliseconds() {
    return Math.round(this.#before + (this.#since === null ? 0 : performance.now() - this.#since));
  }

  #stop() {
    this.#before = this.milliseconds;
    this.#since = null;
  }

  #go() {
    this.#since ??= performance.now();
  }
}
