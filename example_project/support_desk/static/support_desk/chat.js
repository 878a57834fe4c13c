// The page without this file: forms that post, and a page to load again.
"use strict";

const transcript = document.getElementById("transcript");
const status = document.getElementById("status");
const spoken = document.getElementById("spoken");
const box = document.getElementById("text");
const stop = document.querySelector("[data-stop]");
let stream = null; // the EventSource of the run that answers
let sending = false;
let shown = null; // the transcript as the server has rendered it

function say(words, isProblem = false) {
  status.textContent = words;
  status.classList.toggle("problem", isProblem);
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function post(form) {
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new FormData(form),
  });
  if (answer.status === 204) return {};
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  const data = isJson ? await answer.json() : {};
  if (answer.ok) return data;
  const gone = answer.status === 404 && "This session is not there any more: it was deleted, or you are logged in as somebody else.";
  const old = answer.status === 403 && "You have logged in or out meanwhile. Please load the page again.";
  throw new Error(gone || old || data.error || "The site has a problem. Please try again.");
}

// Messages, edits and retries alike: each carries the id of its run, so that a second
// press of the button, or a second try after a lost answer, is still the same one.
async function send(form) {
  if (sending) return;
  sending = true;
  const field = form.elements.text; // a retry has none
  if (field) {
    // Other words than those whose answer was lost are another message.
    const { tried } = form.dataset;
    if (tried !== undefined && tried !== field.value) form.elements.run.value = newId();
    form.dataset.tried = field.value;
  }
  say("Sending …");
  try {
    const { session, next } = await post(form);
    form.elements.run.value = next;
    if (field) {
      form.reset();
      delete form.dataset.tried;
    }
    if (!transcript || location.search) {
      location.assign(session); // where the answer will be
      return;
    }
    say("");
    if ((await refresh()) && !listenToRun()) announce("finished"); // it was quick
    if (document.activeElement === document.body) box.focus({ preventScroll: true });
  } catch (error) {
    const isOffline = error instanceof TypeError;
    say(isOffline ? "The site cannot be reached. What you wrote is still in the box." : error.message, true);
    if (transcript && !isOffline) {
      shown = null; // what the page knows may be too old
      await refresh();
      listenToRun();
    }
  } finally {
    sending = false;
  }
}

// What the server renders is the truth; the stream only shows it earlier.
async function refresh() {
  try {
    const answer = await fetch(transcript.dataset.url);
    if (answer.status === 404) {
      transcript.querySelector("[data-events]")?.removeAttribute("data-events");
      say("This session is not there any more: it was deleted elsewhere.", true);
    }
    if (!answer.ok) return false;
    const html = await answer.text();
    // Forms have new ids and tokens each time.
    const words = html.replace(/<input type="hidden"[^>]*>/g, "");
    if (words !== shown) {
      shown = words;
      replace(html);
    }
    return true;
  } catch {
    say("The site cannot be reached.", true);
    return false;
  }
}

function replace(html) {
  const focused = document.activeElement;
  const isWriting = focused.matches(".edit textarea");
  const drafts = [...transcript.querySelectorAll(".edit form")].filter(isDraft);
  const isLookingBack = Boolean(transcript.querySelector(".versions")?.open);
  transcript.innerHTML = html;
  transcript.querySelector(".versions")?.toggleAttribute("open", isLookingBack);
  drafts.forEach((draft) => keep(draft, focused));
  const { title } = transcript.querySelector(".transcript").dataset;
  for (const one of document.querySelectorAll(".head h1, [aria-current] span")) one.textContent = title;
  showTimes();
  if (!isWriting) follow();
}

function isDraft(form) {
  const { value, defaultValue } = form.elements.text;
  return form.parentElement.open || value !== defaultValue;
}

// What somebody is changing stays, whatever becomes of the transcript around it.
function keep(draft, focused) {
  const old = draft.elements.text;
  const form = document.getElementById(old.id)?.form;
  if (form) {
    form.elements.text.value = old.value;
    form.elements.run.value = draft.elements.run.value;
    Object.assign(form.dataset, draft.dataset);
    form.parentElement.open = draft.parentElement.open;
    if (old !== focused) return;
    form.elements.text.focus({ preventScroll: true });
    form.elements.text.setSelectionRange(old.selectionStart, old.selectionEnd);
  } else if (old.value !== old.defaultValue && !isSaid(old.value)) {
    box.value = box.value ? `${box.value}\n${old.value}` : old.value;
    say("The message that you were changing is gone; your words are in the box below.", true);
    if (old === focused) box.focus();
  }
}

function isSaid(words) {
  return [...transcript.querySelectorAll(".user div")].some((one) => one.textContent === words);
}

// In the reader's own time, not the server's.
function showTimes() {
  for (const time of document.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    const isToday = moment.toDateString() === new Date().toDateString();
    const day = isToday ? {} : { day: "numeric", month: "short" };
    time.textContent = moment.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
  }
}

function follow() {
  transcript.lastElementChild?.scrollIntoView({ block: "end" });
}

function line(kind, label) {
  const item = document.createElement("li");
  item.className = kind;
  if (label) item.append(Object.assign(document.createElement("b"), { textContent: label }));
  const words = document.createElement(kind.startsWith("tool") ? "span" : "div");
  words.dir = "auto";
  item.append(words);
  transcript.querySelector(".transcript").append(item);
  return words;
}

function listen(url) {
  if (stream) return;
  let words = null;
  let tool = null;
  let isLost = false;
  // Not over a refusal that somebody is still reading.
  const tell = (words) => status.classList.contains("problem") || say(words);
  const on = (name, work) =>
    stream.addEventListener(name, (event) => {
      const isNear = innerHeight + scrollY > document.body.scrollHeight - 160;
      work(JSON.parse(event.data));
      if (isNear) follow();
    });
  stream = new EventSource(url);
  stop.hidden = false;
  tell("The agent is answering …");
  on("tool", ({ name, arguments: given }) => {
    words = null;
    tool = line("tool running");
    tool.textContent = `${name} ${given}`;
    tell(`The agent uses ${name} …`);
  });
  on("tool_done", (output) => {
    tool?.append(` → ${output}`);
    tool?.parentElement.classList.remove("running");
    tell("The agent is answering …");
  });
  on("text", (delta) => {
    words ??= line("assistant live", "Agent");
    words.append(delta);
  });
  on("end", async (state) => {
    stream.close();
    stream = null;
    stop.hidden = true;
    say("");
    shown = null; // what the stream has shown gives way to what is kept
    if (await refresh()) announce(state);
    if (!transcript.contains(document.activeElement)) box.focus({ preventScroll: true });
  });
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED) {
      isLost = true;
      say("The connection is lost; trying again …", true); // the browser does
      return;
    }
    stream = null;
    stop.hidden = true;
    refresh();
  };
  stream.onopen = () => {
    if (isLost) say("The agent is answering …");
    isLost = false;
  };
}

function listenToRun() {
  const events = transcript?.querySelector("[data-events]")?.dataset.events;
  if (events) listen(events);
  return Boolean(events);
}

// Heard once and whole: word by word would be a torment to listen to.
function announce(state) {
  const ending = { stopped: "You stopped the answer.", failed: "There is no answer." }[state];
  const answer = [...transcript.querySelectorAll(".assistant div")].at(-1)?.textContent;
  spoken.textContent = ending ?? `Agent: ${answer}`;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-chat]")) {
    event.preventDefault();
    send(form);
  } else if (form.matches("[data-stop]")) {
    event.preventDefault();
    post(form).catch((error) => say(error.message, true));
  }
});

document.addEventListener("keydown", (event) => {
  const field = event.target;
  // While an input method composes a character, its keys belong to it.
  if (!field.matches("[data-chat] textarea") || event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    field.form.requestSubmit();
  } else if (event.key === "Escape") {
    close(field.closest(".edit")); // with what was written; Cancel drops it
  }
});

document.addEventListener("click", (event) => {
  const summary = event.target.closest(".edit > summary");
  if (event.target.matches("[data-say]")) {
    box.value = event.target.textContent;
    box.form.requestSubmit();
  } else if (summary && !summary.parentElement.open) {
    event.preventDefault();
    summary.parentElement.open = true;
    const field = summary.parentElement.querySelector("textarea");
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
});

document.addEventListener("reset", (event) => close(event.target.closest(".edit")));

function close(edit) {
  if (!edit) return;
  edit.open = false;
  edit.querySelector("summary").focus();
}

// Another tab or device may have gone on meanwhile.
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || !transcript || stream) return;
  await refresh();
  listenToRun();
});

// More of the list when its end comes into view; without a script it is a link.
const ends = new IntersectionObserver(async (entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    ends.unobserve(target);
    const url = new URL(target.querySelector("a").href);
    url.searchParams.set("part", "list");
    const answer = await fetch(url);
    if (!answer.ok) continue;
    const part = document.createElement("template");
    part.innerHTML = await answer.text();
    target.replaceWith(part.content);
    watchEnd();
  }
});

function watchEnd() {
  const more = document.querySelector(".sessions .more");
  if (more) ends.observe(more);
}

watchEnd();
showTimes();
if (transcript) follow();
listenToRun();
