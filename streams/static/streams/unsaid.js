/**
 * Runs that ended without a reply, kept in this browser because no snapshot names them.
 *
 * A page that received such a run's final event can offer "Try again" after a reload too. In
 * another browser the message can only be asked again, as a new one.
 */

const PLACE = "unspool:unsaid";
const MOST = 50; // conversations that are kept, the latest

function kept() {
  try {
    return new Map(JSON.parse(localStorage.getItem(PLACE) ?? "[]"));
  } catch {
    return new Map(); // storage is blocked, or holds something else
  }
}

/** The first value of `state.ended`: the last run of this conversation that left no reply. */
export function recall(conversation) {
  const last = kept().get(conversation);
  return last ? { [last.run]: { ...last, type: "run.unheard" } } : {};
}

/** Keep the last run that ended without a reply, so that a reload knows it. */
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
    return; // storage is full or blocked; this page still has it in its state
  }
}
