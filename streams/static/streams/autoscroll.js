/** Following the newest text, but only while the reader is at the bottom and wants to. */

const NEAR = 60; // pixels from the bottom that count as being there

export class Autoscroll {
  #frame;
  #button;
  #following = true;
  #lastTop = 0;
  #lastHeight = 0;

  constructor(frame, button) {
    this.#frame = frame;
    this.#button = button;
    frame.addEventListener("scroll", () => this.#moved(), { passive: true });
    new ResizeObserver(() => this.follow()).observe(frame);
    button.addEventListener("click", () => {
      this.toBottom();
      document.getElementById("message").focus({ preventScroll: true });
    });
  }

  #distance() {
    return this.#frame.scrollHeight - this.#frame.scrollTop - this.#frame.clientHeight;
  }

  #moved() {
    const top = this.#frame.scrollTop;
    const shrunk = this.#frame.scrollHeight < this.#lastHeight;
    this.#lastHeight = this.#frame.scrollHeight;
    // Going up is the reader's doing; a page that grew or shrank under him is not.
    if (top < this.#lastTop - 2 && this.#distance() > NEAR && !shrunk) this.#following = false;
    else if (this.#distance() <= NEAR) this.#following = true;
    this.#lastTop = top;
    this.#button.hidden = this.#following;
  }

  /** New text stands at the end. */
  follow() {
    if (this.#following) this.#frame.scrollTop = this.#frame.scrollHeight;
    else this.#button.hidden = this.#distance() <= NEAR;
  }

  /** Begin where the page does, and follow nothing. */
  toTop() {
    this.#following = false;
    this.#button.hidden = true;
    this.#frame.scrollTop = 0;
  }

  toBottom() {
    this.#following = true;
    this.#button.hidden = true;
    this.#frame.scrollTop = this.#frame.scrollHeight;
  }

  /** Keep what is read where it is while earlier messages come in above it. */
  keep(change) {
    const before = this.#frame.scrollHeight - this.#frame.scrollTop;
    change();
    requestAnimationFrame(() =>
      requestAnimationFrame(() => (this.#frame.scrollTop = this.#frame.scrollHeight - before)));
  }
}
