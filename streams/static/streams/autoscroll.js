/** Scrolling to the newest text, but only while the reader is at the bottom. */

const NEAR = 60; // pixels from the bottom that still count as the bottom
const LEAVING = 300; // ms after a wheel event in which a scroll event may report an older position

export class Autoscroll {
  #frame;
  #button;
  #following = true;
  #lastTop = 0;
  #lastHeight = 0;
  #leftAt = -LEAVING;

  constructor(frame, button) {
    this.#frame = frame;
    this.#button = button;
    frame.addEventListener("scroll", () => this.#moved(), { passive: true });
    // On a slow machine, new text would undo the scroll before the scroll event arrives.
    frame.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    // All growth is followed before it is painted, also between the slices in which long text is read.
    const resized = new ResizeObserver(() => this.#follow());
    resized.observe(frame);
    resized.observe(frame.firstElementChild);
    button.addEventListener("click", () => {
      this.toBottom();
      document.getElementById("message").focus({ preventScroll: true });
    });
  }

  #distance() {
    return this.#frame.scrollHeight - this.#frame.scrollTop - this.#frame.clientHeight;
  }

  #leave() {
    if (this.#frame.scrollTop === 0) return; // there is nothing above
    this.#following = false;
    this.#leftAt = performance.now();
  }

  #moved() {
    const top = this.#frame.scrollTop;
    const shrunk = this.#frame.scrollHeight < this.#lastHeight;
    this.#lastHeight = this.#frame.scrollHeight;
    // Only the reader scrolls up. A page that shrinks also moves the position; that is ignored.
    if (top < this.#lastTop - 2 && this.#distance() > NEAR && !shrunk) this.#following = false;
    else if (this.#distance() <= NEAR && performance.now() - this.#leftAt >= LEAVING)
      this.#following = true;
    this.#lastTop = top;
    this.#button.hidden = this.#following;
  }

  #follow() {
    if (this.#following) this.#goToBottom();
    else this.#button.hidden = this.#distance() <= NEAR;
  }

  #goToBottom() {
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#lastTop = this.#frame.scrollTop; // so the scroll event is not taken for the reader's
  }

  /** Go to the top, and do not follow new text. */
  toTop() {
    this.#following = false;
    this.#button.hidden = true;
    this.#frame.scrollTop = 0;
  }

  toBottom() {
    this.#following = true;
    this.#button.hidden = true;
    this.#goToBottom();
  }

  /** Run `change`, which adds messages above, and keep the visible text in its place. */
  keep(change) {
    const before = this.#frame.scrollHeight - this.#frame.scrollTop;
    change();
    requestAnimationFrame(() =>
      requestAnimationFrame(() => (this.#frame.scrollTop = this.#frame.scrollHeight - before)));
  }
}
