/** The facts of a reply's run, in words: model, attempt, speed, tokens, and why it failed. */

const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
export const inWords = (value) => (value < 10 ? value.toFixed(value < 1 ? 2 : 1) : Math.round(value).toString());

const PLAIN = true; // the value is clear without its label

/** The facts of a run as the API gives it, each `[label, value, explanation, hides its label]`. */
export function factsOf(run) {
  const facts = [];
  if (run.model) facts.push(["Model", run.model, "The model that wrote this reply", PLAIN]);
  facts.push(["Attempt", String(run.attempt), "Which attempt wrote this reply"]);
  const { first, rate } = speedOf(run);
  if (first !== null) facts.push(["First token", `${inWords(first)} s`, "From your message to its first token"]);
  if (rate !== null) facts.push(["Speed", `${inWords(rate)} tokens/s`, "From the first token to the last", PLAIN]);
  if (run.usage) {
    const { input_tokens: read, output_tokens: written, estimated } = run.usage;
    const about = estimated ? "about " : "";
    facts.push(["Tokens", `${about}${read} read, ${written} written`, estimated ? "An estimate" : "As the model counted them"]);
  }
  return facts;
}

function speedOf(run) {
  const { queued_at: queuedAt, first_token_at: firstAt, ended_at: endedAt } = run.timings;
  const first = firstAt ? seconds(queuedAt, firstAt) : null;
  const duration = firstAt && endedAt ? seconds(firstAt, endedAt) : 0;
  const rate = duration > 0 && run.usage ? run.usage.output_tokens / duration : null;
  return { first, rate };
}

const REASONS = {
  "run.cancelled": "Stopped. What was written so far is kept.",
  "run.failed": "This reply could not be finished.",
};

/** Returns `{sentence, failed}`: why a reply is incomplete (null if it is not), and whether the run failed. */
export function shortfall({ ended, run }) {
  const type = ended?.type ?? `run.${run?.status}`;
  const failed = type === "run.failed";
  const report = ended ?? run;
  if (type === "run.cancelled" && report.reply === null) {
    return { sentence: "Stopped before anything was written.", failed };
  }
  if (type in REASONS) return { sentence: ended?.reason || run?.error?.reason || REASONS[type], failed };
  const cutOff = report?.finish_reason === "length";
  return { sentence: cutOff ? "The reply reached its maximum length." : null, failed };
}
