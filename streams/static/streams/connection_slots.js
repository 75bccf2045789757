/**
 * Leave to hold one of the few streams that a browser's tabs have between them.
 *
 * Under HTTP/1.1 all tabs of a site share six connections. Streams hold at most four, so that
 * two are left for everything else. A tab without one is told so, and may look again by itself
 * until another gives way: one in the background does when one in front asks.
 */

const SLOTS = 4;
const PATIENCE = 200; // milliseconds until a tab is told that it has to wait

/**
 * Wait for a permit. `waiting` is called where none is free; `granted` when there is one;
 * `yielded` when another tab has been given it. Gives a function that ends all of this.
 */
export function seekSlot({ granted, waiting, yielded }) {
  if (!navigator.locks || !window.BroadcastChannel) {
    granted(); // plain HTTP from another machine: no locks, so no order to keep
    return () => {};
  }
  const search = new AbortController();
  const news = new BroadcastChannel("unspool-permits");
  let letGo = null;
  let over = false;

  const timer = setTimeout(() => {
    waiting();
    if (document.hasFocus()) news.postMessage({ ask: Math.random() });
  }, PATIENCE);

  for (let place = 0; place < SLOTS; place += 1) {
    navigator.locks
      .request(`unspool-stream-${place}`, { signal: search.signal }, () => {
        if (over || letGo) return null; // another place came first
        clearTimeout(timer);
        const held = new Promise((resolve) => (letGo = resolve));
        search.abort();
        granted();
        return held;
      })
      .catch(() => {}); // the search was called off
  }

  news.onmessage = ({ data }) => {
    if (!data.ask || !letGo || over || document.hasFocus()) return;
    // Of all the tabs in the background, one gives way.
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
    letGo?.();
  }
  return end;
}
