// Keeps a screen fresh: on a message of its event stream it asks for itself again and takes over what is new.
// Everything is worded and formatted by the server, but times, which are put into the reader's own zone.
"use strict";

const PAUSE = 1000; // milliseconds between two looks
const AGAIN = 5000; // until a stream that was refused is asked for once more
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

// An alarm stays in sight wherever the page is scrolled to: what it shows is no longer so.
function say(text, alarm = false) {
  freshness.classList.toggle("alarm", alarm);
  if (freshness.textContent !== text) freshness.textContent = text;
  freshness.hidden = false;
}

function regions(root) {
  return root.querySelectorAll("[data-live]");
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

// Where what has the focus is gone, the focus stays at its place, and does not go to the top of the page.
function take(old, now) {
  const focused = old.contains(document.activeElement);
  become(old, now);
  if (!focused || old.contains(document.activeElement)) return;
  old.tabIndex = -1;
  old.focus({ preventScroll: true });
}

function stateOf(root) {
  return root.querySelector("[data-announce]")?.dataset.announce;
}

let told = stateOf(document);
function announceChange(state) {
  if (state && state !== told) announce.textContent = told = state;
}

// Only what the reader is not typing in is replaced: forms with fields stand outside of the live regions.
// Answers "out" when the session is over, "later" when the server has no page for us just now.
async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) {
    say("You are signed out. What you typed is still here; reload to sign in again.", true);
    return "out";
  }
  if (!answer.ok) return "later";
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localise(fresh);
  announceChange(stateOf(fresh));
  for (const now of regions(fresh)) {
    const old = document.querySelector(`[data-live="${CSS.escape(now.dataset.live)}"]`);
    if (old && isNew(old, now)) take(old, now);
  }
  return "done";
}

// While nobody sees the page it has no stream: a browser allows a server only a few of them, for all tabs together.
function follow(address) {
  let stream = null, over = false, ended = false, waiting = false, again = false;

  async function look() {
    if (waiting) { again = true; return; }
    waiting = true;
    again = false;
    const last = ended; // a look that began before the end may not show it
    try {
      const result = await refresh();
      if (result === "done" && last) say("This run has ended.");
      if (result === "out") stop();
      if (result === "later") again = true;
    } catch {
      say("The server does not answer. This page tries again by itself.", true);
      again = true;
    }
    setTimeout(() => { waiting = false; if (again && !document.hidden) look(); }, PAUSE);
  }

  function close() {
    stream?.close();
    stream = null;
  }

  function stop() {
    over = true;
    close();
  }

  function open() {
    if (over || stream || document.hidden) return;
    stream = new EventSource(address);
    for (const kind of ["log", "event", "state"]) stream.addEventListener(kind, look);
    stream.addEventListener("end", () => { ended = true; stop(); look(); });
    stream.addEventListener("open", () => say("Live: this page updates itself."));
    stream.addEventListener("error", (event) => {
      if (event.target !== stream) return;
      if (stream.readyState !== EventSource.CLOSED) {
        say("The server does not answer. This page tries again by itself.", true);
        return;
      }
      close(); // refused: signed out, or a server that is just starting
      look();
      setTimeout(open, AGAIN);
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { close(); return; }
    open();
    if (again) look();
  });
  open();
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
