"use strict";

// Titles, ids and messages are other people's words, so everything from the warehouse is set as
// text, never as markup.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const quiet = (text) => element("p", { className: "quiet" }, text);

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  return typeof value === "number" ? value.toLocaleString() : String(value);
}

const figure = (value) => (typeof value === "number" ? value.toFixed(4) : "–");

function moment(value) {
  const date = new Date(value);
  if (!value || Number.isNaN(date.valueOf())) return "–";
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// As mf_core/ages.py says it.
function age(seconds) {
  const counted = (number, unit) => `${number.toLocaleString()} ${unit}${number === 1 ? "" : "s"}`;
  if (seconds < 90) return counted(Math.max(seconds, 0), "second");
  if (seconds < 90 * 60) return counted(Math.floor(seconds / 60), "minute");
  if (seconds < 72 * 3600) return counted(Math.floor(seconds / 3600), "hour");
  return counted(Math.floor(seconds / 86400), "day");
}

function card(name, value, note = "") {
  const said = element("dd", {}, value);
  if (note) said.append(element("span", { className: "note" }, note));
  return element("dl", { className: "card" }, element("dt", {}, name), said);
}

function table(caption, columns, rows) {
  const headCells = columns.map(({ name, kind }) => {
    const className = kind === "number" ? kind : "";
    return element("th", { scope: "col", className }, name);
  });
  const bodyRows = rows.map((row) => {
    const cells = columns.map(({ kind, of }) => {
      return element("td", { className: kind ?? "text" }, of(row));
    });
    return element("tr", {}, ...cells);
  });
  const wholeTable = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...headCells)),
    element("tbody", {}, ...bodyRows),
  );
  // A wide table scrolls in its own box, which the keyboard must reach.
  const box = { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption };
  return element("div", box, wholeTable);
}

// Which rows of how many are shown, with the way to the others where there are any.
function pager(name, { rows, offset, size, total }) {
  const last = offset + rows.length;
  const shownRows = rows.length ? `${shown(offset + 1)} to ${shown(last)}` : "none";
  const text = element("span", { className: "quiet" }, `${shownRows} of ${shown(total)}`);
  const newer = element("button", { type: "button", disabled: offset === 0 }, "Newer");
  const older = element("button", { type: "button", disabled: last >= total }, "Older");
  newer.addEventListener("click", () => turnPage(name, Math.max(offset - size, 0)));
  older.addEventListener("click", () => turnPage(name, offset + size));
  return element("nav", { className: "pager", ariaLabel: `Pages of ${name}` }, newer, text, older);
}

function badge(good, word) {
  return element("span", { className: good ? "badge good" : "badge bad" }, word);
}

function showLive(live) {
  if (live === null) {
    const none = quiet(
      "No version is live yet. Unpause or trigger mf_retrain; its first approved run goes live.",
    );
    byId("live").replaceChildren(none);
    return;
  }
  byId("live").replaceChildren(
    card("Version", String(live.model_version)),
    card("Live since", moment(live.went_live_at), shown(live.went_live)),
    card("Age of its lists", age(live.age_seconds), `first live ${moment(live.published_at)}`),
    card("Made from", `${shown(live.n_ratings)} ratings`),
    // A version made of events predicts no ratings.
    ...(live.rmse === null ? [] : [card("Test RMSE", figure(live.rmse))]),
    card(`NDCG@${shown(live.cutoff)}`, figure(live.ndcg)),
  );
}

// The runbook is served beside this page.
function withLinks(text) {
  return text.split(/(docs\/runbook\.md(?:#[\w-]+)?)/).map((part) => {
    const [page, anchor = ""] = part.split("#");
    if (page !== "docs/runbook.md") return part;
    return element("a", { href: anchor ? `runbook#${anchor}` : "runbook" }, part);
  });
}

const OUTCOMES = {
  running: "running",
  published: "published",
  nothing_new: "nothing new",
  dry_run: "dry run",
  refused: "refused",
  failed: "failed",
};

const isGood = (run) => !["refused", "failed"].includes(run.outcome);

const outcome = (run) => badge(isGood(run), OUTCOMES[run.outcome] ?? run.outcome);

function missingPool(pool) {
  const text = `A task waits for the pool "${pool}", which does not exist. `;
  const command = element("code", {}, `airflow pools set '${pool}' 1 training`);
  return element("p", { className: "problem" }, text, "Make it: ", command);
}

function showRun(run, missingPools) {
  if (run === null) {
    byId("run").replaceChildren(quiet("No run is on record yet."));
    return;
  }
  const ended = run.ended_at === null ? "" : `, ended ${moment(run.ended_at)}`;
  const started = `${run.run_key}, started ${moment(run.started_at)} by ${run.started_by}${ended}`;
  const className = isGood(run) ? "good" : "bad";
  const lines = [element("p", {}, element("strong", { className }, run.summary)), quiet(started)];
  if (run.message) lines.push(element("pre", { className: "said" }, run.message));
  if (run.note) lines.push(element("p", { className: "note" }, `To know: ${run.note}`));
  if (run.what_to_do) {
    const heading = element("strong", {}, "What to do: ");
    lines.push(element("p", {}, heading, ...withLinks(run.what_to_do)));
  }
  lines.push(...missingPools.map(missingPool));
  byId("run").replaceChildren(element("div", { className: "panel" }, ...lines));
}

function rule({ passed, warning, text }) {
  // A warning has passed too; verdicts of older releases know none.
  const outcome = warning ? "warning" : passed ? "passed" : "failed";
  return element("li", {}, badge(passed && !warning, outcome), ` ${text}`);
}

function verdict(decision, open) {
  const { approved, stage } = decision;
  const stages = { evaluated: "", refit: ", check of the refit", override: ", overruled" };
  const what = stages[stage] ?? `, ${stage}`;
  const by = decision.decided_by === "gate" ? "" : ` by ${decision.decided_by}`;
  const text = ` version ${decision.model_version}${what}${by}, ${moment(decision.decided_at)}`;

  const champion = decision.champion_version;
  const rival = champion === null ? "no champion" : `champion ${champion}`;
  const against = element("span", { className: "quiet" }, ` against ${rival}`);

  const mark = badge(approved, decision.verdict);
  const summary = element("summary", {}, mark, text, against);
  const reasons = element("ul", {}, ...decision.reasons.map(rule));
  return element("details", { open }, summary, reasons);
}

function showVerdicts(page) {
  // The newest verdict is open.
  const nodes = page.rows.map((decision, index) => verdict(decision, page.offset + index === 0));
  if (!page.total) nodes.push(quiet("The gate has not judged anything yet."));
  else nodes.push(pager("verdicts", page));
  byId("verdicts").replaceChildren(...nodes);
}

function showTable(name, columns, page, none) {
  const nodes = page.total
    ? [table("Newest first", columns, page.rows), pager(name, page)]
    : [quiet(none)];
  byId(name).replaceChildren(...nodes);
}

function showVersions(page) {
  const columns = [
    { name: "Version", kind: "number", of: (model) => String(model.model_version) },
    { name: "State", of: (model) => (model.is_live ? "live" : model.state.replace("_", " ")) },
    { name: "Verdict", of: (model) => shown(model.verdict) },
    { name: "Last went live", kind: "time", of: (model) => moment(model.went_live_at) },
    { name: "How", of: (model) => shown(model.went_live) },
    { name: "Test RMSE", kind: "number", of: (model) => figure(model.rmse) },
    { name: "NDCG", kind: "number", of: (model) => `${figure(model.ndcg)} @${shown(model.cutoff)}` },
    { name: "Lists made from", kind: "number", of: (model) => shown(model.n_ratings) },
    { name: "Begun", kind: "time", of: (model) => moment(model.created_at) },
  ];
  showTable("versions", columns, page, "There are no versions yet.");
}

function showRuns(page) {
  const columns = [
    { name: "Started", kind: "time", of: (run) => moment(run.started_at) },
    { name: "Outcome", of: outcome },
    { name: "Step", of: (run) => shown(run.step) },
    { name: "Version", kind: "number", of: (run) => String(run.model_version ?? "–") },
    { name: "Took", of: (run) => age(run.seconds) },
    { name: "By", of: (run) => shown(run.started_by) },
    { name: "Run", of: (run) => shown(run.run_key) },
  ];
  showTable("runs", columns, page, "No run is on record yet.");
}

const SHOW_PAGE = { versions: showVersions, verdicts: showVerdicts, runs: showRuns };

function showList({ user_id: userId, items }) {
  const columns = [
    { name: "Rank", kind: "number", of: (item) => String(item.rank) },
    { name: "Title", of: (item) => shown(item.title) },
    { name: "Item id", of: (item) => shown(item.item_id) },
    { name: "Score", kind: "number", of: (item) => figure(item.score) },
    { name: "Predicted rating", kind: "number", of: (item) => figure(item.predicted_rating) },
    { name: "Standard deviation", kind: "number", of: (item) => figure(item.predicted_rating_sd) },
    { name: "Source", of: (item) => shown(item.source) },
  ];
  if (!items.length) {
    byId("list").replaceChildren(quiet(`There is no list for user ${userId}.`));
    return;
  }
  const nodes = [table(`List of user ${userId}`, columns, items)];
  if (items.every((item) => item.source === "popular")) {
    nodes.unshift(quiet("Nothing is known that this user likes: this is the popular list."));
  }
  byId("list").replaceChildren(...nodes);
}

function showSimilar({ item_id: itemId, items }) {
  const columns = [
    { name: "Rank", kind: "number", of: (item) => String(item.rank) },
    { name: "Title", of: (item) => shown(item.title) },
    { name: "Item id", of: (item) => shown(item.item_id) },
    { name: "Similarity", kind: "number", of: (item) => figure(item.score) },
  ];
  const nothing = () => quiet(`No item is known to be like item ${itemId}.`);
  const found = items.length ? table(`Items like item ${itemId}`, columns, items) : nothing();
  byId("similar").replaceChildren(found);
}

const PATIENCE_MS = 20000;

async function fetchJson(path) {
  let response;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    response = await fetch(path, { headers: { Accept: "application/json" }, signal });
  } catch {
    throw new Error("Airflow does not answer. Reload in a while.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;

  const { status } = response;
  const words = {
    401: "Your session has ended. Reload Airflow and log in.",
    403: "You may not see the runs that make these recommendations.",
  };
  const detail = typeof body.detail === "string" ? body.detail : `The server answered ${status}.`;
  throw new Error(words[status] ?? detail);
}

function say(problem) {
  byId("problem").textContent = problem;
  byId("problem").hidden = !problem;
}

// With one catalogue there is nothing to choose.
function showCatalogues(catalogues) {
  const links = catalogues.map(({ name, href, shown: isShown }) => {
    return element("a", { href, ariaCurrent: isShown ? "page" : null }, name);
  });
  byId("catalogues").replaceChildren(...links);
  byId("catalogues").hidden = links.length < 2;
}

async function loadCatalogues() {
  try {
    showCatalogues(await fetchJson("api/catalogues"));
  } catch (error) {
    say(error.message);
  }
}

async function loadOverview() {
  byId("reload").disabled = true;
  try {
    const overview = await fetchJson("api/overview");
    say("");
    showLive(overview.live);
    showRun(overview.last_run, overview.missing_pools);
    for (const [name, show] of Object.entries(SHOW_PAGE)) show(overview[name]);
  } catch (error) {
    say(error.message);
    for (const id of ["live", "run", ...Object.keys(SHOW_PAGE)]) {
      byId(id).replaceChildren(quiet("Not known."));
    }
  }
  byId("reload").disabled = false;
}

async function turnPage(name, offset) {
  const buttons = [...byId(name).querySelectorAll(".pager button")];
  const before = buttons.map((button) => button.disabled);
  // One page at a time, so that no answer overtakes another.
  for (const button of buttons) button.disabled = true;
  try {
    SHOW_PAGE[name](await fetchJson(`api/${name}?offset=${offset}`));
    say("");
  } catch (error) {
    say(error.message);
    buttons.forEach((button, index) => { button.disabled = before[index]; });
  }
}

function answer(form, path, show, place) {
  byId(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(new FormData(event.target));
    try {
      show(await fetchJson(`${path}?${query}`));
      say("");
    } catch (error) {
      byId(place).replaceChildren();
      say(error.message);
    }
  });
}

// Airflow keeps the chosen theme under this key. With `system`, or without a value, the browser
// chooses.
function followTheme() {
  const theme = localStorage.getItem("theme");
  document.documentElement.dataset.theme = ["light", "dark"].includes(theme) ? theme : "";
}

followTheme();
window.addEventListener("storage", followTheme);
byId("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
answer("look-up", "api/recommendations", showList, "list");
answer("look-up-similar", "api/similar", showSimilar, "similar");
byId("reload").addEventListener("click", loadOverview);
loadOverview();
loadCatalogues();
