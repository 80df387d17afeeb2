// Keeps a screen fresh: on a message of its event stream it asks for itself again and takes over what is new.
// Everything is worded and formatted by the server, but times, which are put into the reader's own zone.
"use strict";

const PAUSE = 1000; // milliseconds between two looks
const freshness = document.getElementById("freshness");
const announce = document.getElementById("announce");
const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.textContent = zoned.format(moment);
  }
}

function say(text) {
  freshness.textContent = text;
  freshness.hidden = false;
}

// A region with forms has new tokens each time: its data-version says whether anything else is new.
function isNew(old, now) {
  if (now.dataset.version) return old.dataset.version !== now.dataset.version;
  return old.innerHTML !== now.innerHTML;
}

function take(old, now) {
  const active = old.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = [...old.querySelectorAll(".scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]);
  const open = [...old.querySelectorAll("details")].map((each) => each.open);
  old.replaceChildren(...now.childNodes);
  if (now.dataset.version) old.dataset.version = now.dataset.version;
  old.querySelectorAll(".scroll, pre").forEach((each, i) => scrolled[i] && each.scrollTo(...scrolled[i]));
  old.querySelectorAll("details").forEach((each, i) => { if (open[i]) each.open = true; });
  if (active && active.id) document.getElementById(active.id)?.focus({ preventScroll: true });
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
    if (old && isNew(old, now)) take(old, now);
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

localise(document);
if (document.body.dataset.stream) follow(document.body.dataset.stream);
