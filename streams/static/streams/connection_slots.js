/**
 * Connection slots: how many tabs of a browser may hold a stream at the same time.
 *
 * With HTTP/1.1 all tabs of a site share six connections. Streams use at most four of them, so
 * two are left for other requests. A tab without a slot may poll until it gets one. When the
 * tab in front asks, one tab in the background releases its slot. Slots are Web Locks.
 */

const SLOTS = 4;
const PATIENCE = 200; // milliseconds until `waiting` is called
const AGAIN = 2_000; // milliseconds until the tab in front asks again, because another tab may have got the slot

/**
 * Wait for a slot. Calls `waiting` if none is free, `granted` when this tab has a slot, and
 * `yielded` when this tab has released it for another tab. Returns a function that ends the wait
 * and releases the slot.
 */
export function seekSlot({ granted, waiting, yielded }) {
  if (!navigator.locks || !window.BroadcastChannel) {
    granted(); // browsers offer no locks over plain HTTP, so the tabs do not share
    return () => {};
  }
  const search = new AbortController();
  const news = new BroadcastChannel("unspool-permits");
  let release = null;
  let over = false;

  let timer = setTimeout(() => {
    waiting();
    ask();
  }, PATIENCE);

  function ask() {
    if (document.hasFocus()) news.postMessage({ ask: Math.random() });
    timer = setTimeout(ask, AGAIN);
  }

  for (let slot = 0; slot < SLOTS; slot += 1) {
    navigator.locks
      .request(`unspool-stream-${slot}`, { signal: search.signal }, () => {
        if (over || release) return null; // this tab has got another slot
        clearTimeout(timer);
        const held = new Promise((resolve) => (release = resolve));
        search.abort();
        granted();
        return held;
      })
      .catch(() => {}); // the search was aborted
  }

  news.onmessage = ({ data }) => {
    if (!data.ask || !release || over || document.hasFocus()) return;
    // All tabs in the background get this message; the lock chooses one of them.
    const claim = `unspool-yield-${data.ask}`;
    navigator.locks.request(claim, { ifAvailable: true }, async (mine) => {
      if (!mine) return;
      end();
      yielded();
      await new Promise((resolve) => setTimeout(resolve, 1000));
    });
  };

  function end() {
    over = true;
    clearTimeout(timer);
    search.abort();
    news.close();
    release?.();
  }
  return end;
}
