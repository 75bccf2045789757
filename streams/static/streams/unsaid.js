/**
 * Runs that ended without a word, kept in this browser: no snapshot names them.
 *
 * Who has heard such an ending can have the same message answered anew after a reload too.
 * In another browser there is only the message, to be asked again.
 */

const PLACE = "unspool:unsaid";
const MOST = 50; // conversations, the latest

function kept() {
  try {
    return new Map(JSON.parse(localStorage.getItem(PLACE) ?? "[]"));
  } catch {
    return new Map(); // storage is forbidden, or somebody else's
  }
}

/** What `state.ended` begins with: the run that last ended so in this conversation, if any. */
export function recall(conversation) {
  const last = kept().get(conversation);
  return last ? { [last.run]: { ...last, type: "run.unheard" } } : {};
}

/** Keep what this reader has heard of, once it is known to have left no reply. */
export function remember({ id, ended, messages }) {
  const wrote = new Set(messages.map(({ run }) => run));
  const last = Object.values(ended).filter(({ run }) => !wrote.has(run)).at(-1);
  if (last === undefined) return;
  const all = kept();
  all.delete(id);
  all.set(id, { run: last.run, message: last.message });
  try {
    localStorage.setItem(PLACE, JSON.stringify([...all].slice(-MOST)));
  } catch {
    return; // storage is full, or forbidden: this page knows it all the same
  }
}
