/** What the service knows of a reply, in words: who wrote it, at which try, how fast, how much. */

const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
const inWords = (value) => (value < 10 ? value.toFixed(value < 1 ? 2 : 1) : Math.round(value).toString());

const PLAIN = true; // the value says what it is

/** The facts of a run's report, each `[label, value, explanation, needs no label?]`. */
export function factsOf(run) {
  const facts = [];
  if (run.model) facts.push(["Model", run.model, "The model that was asked", PLAIN]);
  facts.push(["Attempt", String(run.attempt), "Which worker's try at this reply was kept"]);
  const { first, rate } = speedOf(run);
  if (first !== null) facts.push(["First token", `${inWords(first)} s`, "From your message to its first token"]);
  if (rate !== null) facts.push(["Speed", `${inWords(rate)} tokens/s`, "From the first token to the last", PLAIN]);
  if (run.usage) {
    const { input_tokens: read, output_tokens: written, estimated } = run.usage;
    const about = estimated ? "about " : "";
    facts.push(["Tokens", `${about}${read} read, ${written} written`, "What the model counted"]);
  }
  return facts;
}

function speedOf(run) {
  const { queued_at: asked, first_token_at: firstAt, ended_at: endedAt } = run.timings;
  const first = firstAt ? seconds(asked, firstAt) : null;
  const lasted = firstAt && endedAt ? seconds(firstAt, endedAt) : 0;
  const rate = lasted > 0 && run.usage ? run.usage.output_tokens / lasted : null;
  return { first, rate };
}

const REASONS = {
  "run.cancelled": "Stopped. What was written so far is kept.",
  "run.failed": "This reply could not be finished.",
};

/** Why a reply is not whole, as a sentence or null, and whether that is a failure. */
export function shortfall({ ended, run }) {
  const heard = ended !== null && ended.type !== "run.unheard";
  const type = heard ? ended.type : `run.${run?.status}`;
  const failed = type === "run.failed";
  const report = heard ? ended : run;
  if (type === "run.cancelled" && report.reply === null) {
    return { sentence: "Stopped before anything was written.", failed };
  }
  if (type in REASONS) return { sentence: ended?.reason || run?.error?.reason || REASONS[type], failed };
  const cutOff = report?.finish_reason === "length";
  return { sentence: cutOff ? "The reply reached the length that is allowed." : null, failed };
}
