// Keeps a screen fresh: on a message of its event stream it asks for itself again and takes over what is new.
// Everything is worded and formatted by the server, but times, which are put into the reader's own zone.
"use strict";

const PAUSE = 1000; // milliseconds between two looks
const freshness = document.getElementById("freshness");
const announce = document.getElementById("announce");
const zones = document.getElementById("switch-zone");
const form = { dateStyle: "medium", timeStyle: "medium" };
const zoned = new Intl.DateTimeFormat(undefined, form);
const universal = new Intl.DateTimeFormat(undefined, { ...form, timeZone: "UTC" });
let inUtc = false;

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.textContent = (inUtc ? universal : zoned).format(moment);
  }
}

// The UTC is in each time's tooltip; for those who have no pointer to hover with, one button shows it in all of them.
function tellZone() {
  const zone = zoned.resolvedOptions().timeZone;
  document.getElementById("zone").textContent = inUtc ? "Times are in UTC." : `Times are in your zone, ${zone}.`;
  zones.textContent = inUtc ? "Show my zone" : "Show UTC";
  zones.hidden = zone === "UTC";
}

zones.addEventListener("click", () => {
  inUtc = !inUtc;
  localise(document);
  tellZone();
});

function say(text) {
  freshness.textContent = text;
  freshness.hidden = false;
}

// A region with forms has new tokens each time: its data-version says whether anything else is new.
function isNew(old, now) {
  if (now.dataset.version) return old.dataset.version !== now.dataset.version;
  return !old.isEqualNode(now);
}

function alike(old, now) {
  return old.nodeName === now.nodeName && old.id === now.id && old.dataset?.key === now.dataset?.key;
}

// Changes what is there into what should be, in place: focus, selection, scrolling and open details stay as they are.
function become(old, now) {
  if (!(old instanceof Element)) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  let next = old.firstChild;
  for (const child of [...now.childNodes]) {
    const kept = child.dataset?.key ? [...old.children].find((each) => alike(each, child)) : next;
    if (kept && alike(kept, child)) {
      if (kept !== next) old.insertBefore(kept, next);
      else next = next.nextSibling;
      become(kept, child);
    } else {
      old.insertBefore(child, next);
    }
  }
  while (next) { const last = next; next = next.nextSibling; last.remove(); }
}

function announceChange(now) {
  const told = document.querySelector("[data-announce]")?.dataset.announce;
  const text = now.querySelector("[data-announce]")?.dataset.announce;
  if (text && text !== told) announce.textContent = text;
}

// Only what the reader is not typing in is replaced: forms with fields stand outside of the live regions.
async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) {
    say("You are signed out. What you typed is still here; reload to sign in again.");
    return false;
  }
  if (!answer.ok) return true;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localise(fresh);
  announceChange(fresh);
  for (const now of fresh.querySelectorAll("[data-live]")) {
    const old = document.querySelector(`[data-live="${CSS.escape(now.dataset.live)}"]`);
    if (old && isNew(old, now)) become(old, now);
  }
  return true;
}

function follow(address) {
  const stream = new EventSource(address);
  let waiting = false, again = false;
  async function look() {
    if (waiting) { again = true; return; }
    waiting = true;
    again = false;
    try {
      if (!(await refresh())) { stream.close(); return; }
    } catch { say("The server does not answer. This page tries again by itself."); }
    setTimeout(() => { waiting = false; if (again) look(); }, PAUSE);
  }
  for (const kind of ["log", "event", "state"]) stream.addEventListener(kind, look);
  stream.addEventListener("end", () => { look(); stream.close(); say("This run has ended."); });
  stream.addEventListener("open", () => say("Live: this page updates itself."));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) look();
    else say("The server does not answer. This page tries again by itself.");
  });
}

function chooseRows(form) {
  const rows = [...form.querySelectorAll("input[type=checkbox][name=key]")];
  const all = form.querySelector("[data-choose-all]"), told = form.querySelector("[data-chosen]");
  function count() {
    const chosen = rows.filter((row) => row.checked).length;
    told.textContent = chosen ? `${chosen} chosen` : "";
    all.textContent = chosen === rows.length ? "Choose none" : "Choose all on this page";
  }
  all.hidden = false;
  all.addEventListener("click", () => {
    const every = rows.some((row) => !row.checked);
    for (const row of rows) row.checked = every;
    count();
  });
  form.addEventListener("change", count);
  count();
}

localise(document);
tellZone();
document.querySelectorAll("form[data-choose]").forEach(chooseRows);
if (document.body.dataset.stream) follow(document.body.dataset.stream);
