"use strict";
// Shows what `events` sends. Text is set as text, never as HTML.

const STALE_AFTER = 2.5; // seconds without a snapshot; one comes every second
const SVG = "http://www.w3.org/2000/svg";
const PHASES = {
  with_agent: "with agent", asking: "asking", ringing: "ringing", consulting: "consulting",
  completing: "completing", checking: "checking", bringing_back: "bringing back",
  with_partner: "with partner", over: "over", on_hold: "on hold",
};
const LANES = { urgent: "wait: urgent", awaited: "wait: awaited", streamed: "wait: stream", looked: "wait: look-up" };
const VERDICTS = { accepted: "accepted", rejected: "rejected", not_sent: "not sent", in_doubt: "in doubt" };

const at = (id) => document.getElementById(id);
let view = null;
let heardAt = performance.now();
let everHeard = false;
let isRefused = false;

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function draw(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  return `${Math.round(seconds)} s`;
}

function age(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${String(whole % 60).padStart(2, "0")} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function sinceHeard() {
  return (performance.now() - heardAt) / 1000;
}

// Ages go on between snapshots, and while none comes.
function ageOf(seconds) {
  const made = make("time", { "data-age": seconds });
  made.textContent = age(seconds + sinceHeard());
  return made;
}

// Says whether any changed: what is longer by then may need another line.
function tickAges() {
  const since = sinceHeard();
  return [...document.querySelectorAll("time[data-age]")]
    .filter((one) => setText(one, age(Number(one.dataset.age) + since))).length > 0;
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

// A long id, so that it can still be found by how it begins.
function short(id) {
  return id.length <= 10 ? id : make("span", { title: id }, `${id.slice(0, 8)}…`);
}

// Leaves alone what is the same: a screen reader is told of changes only.
function fill(id, key, children) {
  const box = at(id);
  if (box.dataset.key === key) return false;
  box.dataset.key = key;
  box.replaceChildren(...children());
  return true;
}

function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

function showTroubles() {
  const alarms = view.troubles.filter((one) => one.level === "alarm");
  const warnings = view.troubles.filter((one) => one.level !== "alarm");
  const said = (list) => JSON.stringify(list.map((one) => [one.what, one.todo]));
  const cards = fill("alarms", said(alarms), () => alarms.map((one) => make("div", { class: one.brief ? "card alarm named" : "card alarm", "data-number": customersOf(one) },
    one.age === undefined ? null : make("span", { class: "age", "aria-live": "off" }, ageOf(one.age)),
    make("strong", {}, one.what), make("p", { class: "todo" }, ...unbroken(one.todo)),
    one.brief ? make("p", { class: "brief" }, ...unbroken(one.brief)) : null)));
  if (!cards) {
    at("alarms").querySelectorAll("time").forEach((one, index) => { one.dataset.age = alarms[index].age; });
  }
  fill("warnings", said(warnings), () => warnings.map((one) => make("li", { class: "card warning", "data-short": one.short },
    make("strong", {}, one.what), make("p", {}, one.todo), make("p", { class: "last", "aria-live": "off" }))));
  at("warnings").querySelectorAll(".last").forEach((box, index) => box.replaceChildren(...lastOf(warnings[index])));
  at("well").hidden = view.troubles.length > 0;
  const held = alarms.reduce((sum, one) => sum + customersOf(one), 0);
  showSummary(held, warnings.map((one) => one.short));
  document.title = held ? `(${held}) ON HOLD – aiophlo` : "aiophlo wallboard";
}

// A line may end after any "…"; the two digits alone would look like a number.
function unbroken(text) {
  return text.split(/(…\d+)/).map((part, index) => index % 2 ? make("span", { class: "masked" }, part) : part);
}

// Where the page is scrolled, its first screen says how much is wrong, and leads there.
function showSummary(held, shorts) {
  at("summary").hidden = held + shorts.length <= 2;
  fill("summary", JSON.stringify([held, shorts]), () => [
    held ? `${counted(held, "customer")} on hold. ` : "",
    ...(shorts.length ? [make("a", { href: "#warnings" }, ofKinds(held ? "other trouble" : "trouble", shorts)), ". "] : []),
    make("a", { href: "#accounts-title" }, "Accounts"), "."]);
}

function counted(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

// How many there are in all, and of each kind, such as: 3 troubles (2× Plivo away, webhooks refused).
function ofKinds(what, shorts) {
  const kinds = [...new Set(shorts)].map((kind) => [kind, shorts.filter((one) => one === kind).length]);
  const told = kinds.map(([kind, number]) => number === 1 ? kind : `${number}× ${kind}`);
  return `${counted(shorts.length, what)} (${told.join(", ")})`;
}

// An alarm is about one customer, or about all those who aren't listed.
function customersOf(alarm) {
  return alarm.number || 1;
}

function lastOf(trouble) {
  return Object.entries(trouble.last || {}).map(([name, seconds]) => make("span", {},
    `${name}: `, ...(seconds === null ? ["never"] : [ageOf(seconds), " ago"])));
}

function chart(account) {
  const limit = account.limit;
  const highest = Math.max(...account.requests, 1);
  const full = limit === null ? null : limit * account.slice_seconds;
  const top = Math.max(highest, full || 0) * 1.15;
  const width = 1200, height = 200, step = width / (account.requests.length - 1);
  const mark = height / 10;
  const made = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  const title = draw("title", {});
  const sum = account.requests.reduce((one, other) => one + other, 0);
  const refused = account.refused.reduce((one, other) => one + other, 0);
  title.textContent = `Requests in each five seconds of the last ten minutes: ${sum} in all, at most ${highest},`
    + ` ${full === null ? "no quota" : `of ${Math.round(full)} that the quota grants`}; ${refused} refused.`;
  made.append(title, draw("line", { class: "base", x1: 0, x2: width, y1: height - 1, y2: height - 1 }));
  // The slice that runs is not drawn: it would look like a drop.
  account.requests.slice(0, -1).forEach((count, index) => {
    if (!count) return;
    const no = account.refused[index];
    const x = index * step, tall = (count / top) * height, red = (no / top) * height;
    made.append(draw("rect", { class: "ours", x, y: height - tall + red, width: step * 0.8, height: tall - red }));
    if (!no) return;
    // One of hundreds is a hairline, so there is a mark above the quota; were it thicker, it would hide what was granted.
    made.append(draw("rect", { class: "no", x, y: height - tall, width: step * 0.8, height: red }));
    made.append(draw("rect", { class: "no mark", x, y: 0, width: step * 0.8, height: mark }));
  });
  if (full !== null) {
    const y = height - (full / top) * height;
    made.append(draw("line", { class: "limit", x1: 0, x2: width, y1: y, y2: y }));
  }
  return made;
}

function tile(name, value, bad, label) {
  return make("div", bad ? { class: "bad" } : {}, make("dt", {}, label || name), make("dd", { "data-name": name }, String(value)));
}

function accountCard(account) {
  const slices = account.requests;
  // The last whole slice: the one that runs is not full yet.
  const rate = slices[slices.length - 2] / account.slice_seconds;
  const refused = account.refused.reduce((one, other) => one + other, 0);
  const pace = make("p", { class: "pace" }, make("b", {}, rate.toFixed(1)),
    account.limit === null ? " requests/s, no quota" : ` of ${account.limit.toFixed(1)} requests/s`);
  const lowered = account.limit !== null && account.pace < account.limit * 0.995;
  const about = make("p", {});
  if (account.paused_for > 0) about.append(make("span", { class: "paused" }, `paused after a 429, ${Math.ceil(account.paused_for)} s more`));
  else if (lowered) about.append(make("span", {}, `slowed to ${account.pace.toFixed(1)}/s after a 429`));
  const own = account.owner === account.account ? "" : ` – shares the quota of ${account.owner}`;
  const waiting = Object.entries(account.waiting).map(([lane, number]) => tile(`waiting, ${lane}`, number, false, LANES[lane]));
  const verdicts = Object.entries(VERDICTS).map(([verdict, name]) =>
    tile(name, account.verdicts[verdict], verdict === "in_doubt" && account.verdicts[verdict] > 0));
  return make("article", { class: "card", "data-account": account.account, "aria-label": `Account ${account.account}` },
    make("div", { class: "head" }, make("h3", {}, account.account + own), pace), about,
    chart(account),
    make("p", { class: "key" }, make("span", {}, "10 min ago"),
      make("span", { class: "no" }, refused ? `■ ${refused} refused (429)` : ""),
      make("span", {}, account.limit === null ? "" : "- - quota"), make("span", {}, "now")),
    make("dl", { class: "tiles" }, ...verdicts, tile("429s", refused, refused > 0), tile("double clicks", account.joined)),
    make("dl", { class: "tiles" }, tile("in flight", account.in_flight), ...waiting),
    make("dl", { class: "tiles" },
      tile("wait p50", duration(account.wait.p50), false, "half waited up to"),
      tile("wait p99", duration(account.wait.p99), false, "99 % waited up to"),
      tile("answer p50", duration(account.answer.p50), false, "half answered within"),
      tile("answer p99", duration(account.answer.p99), false, "99 % answered within")));
}

function showAccounts() {
  const key = JSON.stringify(view.accounts);
  at("accounts").classList.toggle("many", view.accounts.length > 1);
  fill("accounts", key, () => view.accounts.map(accountCard));
}

const MOST_ROWS = 8;
const LEAST_ROWS = 2;

function row(cells, held) {
  return make("tr", held ? { class: "held", title: "This customer may be on hold" } : {},
    ...cells.map(([value, kind]) => make("td", kind ? { class: kind } : {}, value)));
}

function isHeld(id) {
  return id !== "" && view.on_hold.some((one) => one.id === id);
}

function showRows(name, rows, all) {
  at(name).replaceChildren(...rows);
  at(name).closest(".scroll").hidden = rows.length === 0;
  at(`no-${name}`).hidden = all > 0;
  const more = all - rows.length;
  at(`more-${name}`).hidden = more === 0;
  setText(at(`more-${name}`), rows.length ? `and ${more} more` : `${more}: no room to list them`);
}

function showHandovers(shown) {
  const phases = Object.entries(view.phases);
  at("phases").replaceChildren(...phases.map(([phase, told]) => make("li", { "data-phase": phase },
    make("b", {}, String(told.number)), make("span", {}, `${PHASES[phase] || phase}, oldest `, ageOf(told.oldest)))));
  const all = Math.max(view.handovers.length, phases.reduce((sum, [, told]) => sum + told.number, 0));
  const rows = view.handovers.slice(0, shown).map((one) => row([
    [PHASES[one.phase] || one.phase], [ageOf(one.phase_age)], [ageOf(one.age), "wide"], [one.agent],
    [one.customer], [one.partner], [short(one.id), "wide"]], isHeld(one.id)));
  showRows("handovers", rows, all);
}

function showDoubts(shown) {
  const all = Math.max(view.in_doubt.length, view.accounts.reduce((sum, one) => sum + one.verdicts.in_doubt, 0));
  setText(at("doubts-about"), all === 0 ? "" : `${all} in ten minutes, done or not: see Plivo's call log first`);
  document.body.classList.toggle("one-account", view.accounts.length < 2);
  const first = [...view.in_doubt].sort((one, other) => isHeld(other.handover) - isHeld(one.handover));
  const rows = first.slice(0, shown).map((one) => row([
    [clock(view.at - one.age)], [one.action], [one.who], [one.reason.replaceAll("_", " ")],
    [short(one.account), "wide account"], [short(one.handover), "wide"]], isHeld(one.handover)));
  showRows("doubts", rows, all);
}

// What has room, as long as there is as much to show on a screen of the same size.
let room = { key: null, fits: false, handovers: MOST_ROWS, doubts: MOST_ROWS };

function roomKey() {
  const accounts = view.accounts.map((one) => [one.account, one.paused_for > 0, one.pace]);
  return JSON.stringify([innerWidth, innerHeight, !at("stale").hidden, accounts, view.notice, view.processes.length,
    view.handovers.length, view.in_doubt.length, Object.keys(view.phases),
    at("alarms").dataset.key, at("warnings").dataset.key]);
}

// What makes room, one after the other: smaller figures; without the charts; of the third
// and the further alarms only who they are; without advice on warnings; without what waits
// and how long.
const GIVEN_UP = ["tight", "crowded", "packed", "terse", "bare"];

// Nobody scrolls a wall: there are as many rows as its screen has room for; if that
// isn't enough, what is GIVEN_UP makes room for what is wrong, and then the troubles
// that come last: customers on hold come first.
function showTables() {
  showHandovers(room.handovers);
  showDoubts(room.doubts);
  const key = roomKey();
  if (room.key === key && !overflows()) return;
  room = { key, ...makeRoom() };
  room.fits = !overflows();
}

function overflows() {
  return matchMedia("(min-width: 1200px)").matches && document.documentElement.scrollHeight > innerHeight;
}

function mostRows() {
  return {
    handovers: Math.min(MOST_ROWS, view.handovers.length),
    doubts: Math.min(MOST_ROWS, view.in_doubt.length),
  };
}

function makeRoom() {
  const rows = mostRows();
  document.body.classList.remove(...GIVEN_UP);
  showTroubleCards(Infinity);
  showHandovers(rows.handovers);
  showDoubts(rows.doubts);
  // With much to say, smaller figures come before fewer rows.
  if (view.troubles.length > 1 && overflows()) document.body.classList.add("tight");
  showFewerRows(rows, LEAST_ROWS);
  if (!overflows()) return rows;
  for (const kind of GIVEN_UP) if (overflows()) document.body.classList.add(kind);
  showFewerRows(rows, 0);
  if (overflows()) showFirstTroubles();
  takeBack(rows);
  return rows;
}

function showFewerRows(rows, least) {
  while (overflows() && Math.max(rows.handovers, rows.doubts) > least) {
    if (rows.doubts >= rows.handovers) showDoubts(--rows.doubts); else showHandovers(--rows.handovers);
  }
}

// One of the two columns is longer: what the other gave up was no gain, and comes back;
// so do rows, as many as fit by now.
function takeBack(rows) {
  for (const kind of [...GIVEN_UP].reverse()) {
    document.body.classList.remove(kind);
    if (overflows()) document.body.classList.add(kind);
  }
  const most = mostRows();
  while (rows.doubts < most.doubts) {
    showDoubts(++rows.doubts);
    if (overflows()) { showDoubts(--rows.doubts); break; }
  }
  while (rows.handovers < most.handovers) {
    showHandovers(++rows.handovers);
    if (overflows()) { showHandovers(--rows.handovers); break; }
  }
}

function troubleCards() {
  return [...at("alarms").children, ...at("warnings").children];
}

function showTroubleCards(number) {
  const hidden = troubleCards().slice(number);
  for (const card of troubleCards()) {
    const isHidden = hidden.includes(card);
    if (card.hidden !== isHidden) card.hidden = isHidden;
  }
  const more = at("more-troubles");
  more.hidden = hidden.length === 0;
  const alarms = hidden.filter((card) => card.classList.contains("alarm"));
  const held = alarms.reduce((sum, card) => sum + Number(card.dataset.number), 0);
  const shorts = hidden.filter((card) => card.dataset.short).map((card) => card.dataset.short);
  const customers = held && `${counted(held, "more customer")} on hold`;
  const told = [customers, shorts.length && ofKinds("more trouble", shorts)].filter(Boolean);
  setText(more, `And ${told.join(", ")}: see aiophlo top`);
  // It is one line, as a second one would cost a customer's: without advice, then cut.
  if (more.scrollWidth > more.clientWidth) setText(more, `And ${told.join(", ")}`);
  more.classList.toggle("alarm", held > 0);
  more.classList.toggle("warning", held === 0);
}

// Each try lays the page out anew: so few of them as halving takes.
function showFirstTroubles() {
  let fits = 1, doesNot = troubleCards().length;
  while (doesNot - fits > 1) {
    const middle = Math.floor((fits + doesNot) / 2);
    showTroubleCards(middle);
    if (overflows()) doesNot = middle; else fits = middle;
  }
  showTroubleCards(fits);
}

// Of one that needs none, "without" would be read as what is wrong.
const COORDINATORS = { none: "without a coordinator", reached: "reaches the coordinator", away: "does NOT reach the coordinator" };

function showProcesses() {
  const shared = view.processes.some((one) => one.coordinator !== "none");
  const state = (one) => one.silent ? "says nothing, " : shared ? `${COORDINATORS[one.coordinator] || one.coordinator}, ` : "";
  at("processes").replaceChildren(...view.processes.map((one) => make("li", {},
    `${one.name}: ${state(one)}heard `, ageOf(one.age), " ago")));
  at("notice").hidden = !view.notice;
  setText(at("notice"), view.notice);
  const away = view.processes.filter((one) => one.coordinator === "away").length;
  at("health").dataset.state = away ? "away" : "reached";
  setText(at("health"), !shared ? "" : away ? `Coordinator away from ${away} of ${view.processes.length}` : `Coordinated: ${view.processes.length}`);
  const results = Object.entries(view.webhooks.results).map(([name, count]) => `${count} ${name === "fed" ? "passed on" : name}`);
  const last = view.webhooks.last_age;
  at("webhooks").replaceChildren(...(!view.webhooks.heard ? ["Webhooks: no receiver has told of any."]
    : [`Webhooks in ten minutes: ${results.join(", ") || "none"}. Last event: `,
      ...(last === null ? ["none yet."] : [ageOf(last), " ago."])]));
}

function show() {
  showTroubles();
  showAccounts();
  showProcesses();
  showTables();
}

function watchAge() {
  const stale = sinceHeard() > STALE_AFTER;
  document.body.classList.toggle("is-stale", stale);
  const turned = at("stale").hidden === stale;
  at("stale").hidden = !stale;
  const state = stale ? "stale" : everHeard ? "live" : "waiting";
  at("live").dataset.state = state;
  setText(at("live"), stale ? "Not live" : everHeard ? "Live" : "Connecting…");
  const held = everHeard ? view.on_hold_number : 0;
  const todo = isRefused ? " It wants another token: open it anew with that." : " Trying again…";
  fill("stale", JSON.stringify([stale, everHeard, held, isRefused]), () => !stale ? [] : everHeard
    ? ["OLD DATA: nothing has come for ", make("span", { "aria-live": "off" }, ageOf(0)),
      held ? `. ${counted(held, "customer")} may still be on hold.` : ". What you see may be wrong.", todo]
    : [`No data: the wallboard's server doesn't answer.${todo}`]);
  // What is jumped to is to end up below it, with its outline.
  document.documentElement.style.scrollPaddingTop = stale ? `${at("stale").offsetHeight + 8}px` : "";
  if ((tickAges() || turned) && room.fits && overflows()) showTables();
}

function connect() {
  const events = new EventSource("events");
  events.onmessage = (message) => {
    view = JSON.parse(message.data);
    heardAt = performance.now();
    everHeard = true;
    show();
    watchAge();
  };
  events.onerror = () => {
    askWhy();
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

// Events don't tell an answer's status.
async function askWhy() {
  const status = await fetch("events", { method: "HEAD" }).then((answer) => answer.status, () => 0);
  isRefused = status === 403;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(at("theme"), theme === "dark" ? "Light theme" : "Dark theme");
}

function startTheme() {
  const kept = localStorage.getItem("aiophlo-theme");
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(kept || (dark ? "dark" : "light"));
  at("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("aiophlo-theme", theme);
    setTheme(theme);
  });
}

startTheme();
connect();
setInterval(watchAge, 100);
