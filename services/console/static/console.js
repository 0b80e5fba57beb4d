// Reads the page again and carries over what differs, so that focus, selection and opened details stay.
// Everything works without this; it only spares the reload.
"use strict";

const WAIT_MAX_MS = 30000;
const ANSWER_WAIT_MS = 20000;
// A page that takes long is read less often: at most this part of the time.
const SHARE = 4;

const main = document.getElementById("main");
const live = document.getElementById("live");
const every = Number(main.dataset.liveMs);

if (every > 0) {
  const said = live.querySelector("span");
  const button = live.querySelector("button");
  let paused = false;
  let failures = 0;
  let timer = 0;

  const say = (text, isLost) => {
    if (said.textContent !== text) said.textContent = text;
    live.classList.toggle("lost", isLost);
  };

  const turn = async () => {
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(ANSWER_WAIT_MS), redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) return;
      for (const id of ["main", "foot"]) {
        const found = next.getElementById(id);
        if (found) carry(document.getElementById(id), found);
      }
      failures = 0;
      say("Live", false);
    } catch {
      failures += 1;
      if (failures > 1) say("No answer: the figures are old", true);
    }
    const took = performance.now() - began;
    plan(Math.min(WAIT_MAX_MS, Math.max(every * 2 ** Math.min(failures, 4), took * SHARE)));
  };

  const plan = (wait) => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(turn, wait);
  };

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Paused" : "Live", false);
    plan(0);
  });
  document.addEventListener("visibilitychange", () => plan(0));
  live.hidden = false;
  say("Live", false);
  plan(every);
}

// Makes `here` like `there`, node by node.
function carry(here, there) {
  for (const attribute of [...here.attributes]) {
    if (!there.hasAttribute(attribute.name) && attribute.name !== "open") here.removeAttribute(attribute.name);
  }
  for (const attribute of there.attributes) {
    if (here.getAttribute(attribute.name) !== attribute.value) here.setAttribute(attribute.name, attribute.value);
  }
  const old = [...here.childNodes];
  const fresh = [...there.childNodes];
  fresh.forEach((node, index) => {
    const known = old[index];
    if (!known) {
      here.append(document.importNode(node, true));
    } else if (known.nodeType !== node.nodeType || known.nodeName !== node.nodeName) {
      known.replaceWith(document.importNode(node, true));
    } else if (node.nodeType === Node.ELEMENT_NODE) {
      // What is being filled in is left alone.
      if (known.nodeName !== "FORM") carry(known, node);
    } else if (known.nodeValue !== node.nodeValue) {
      known.nodeValue = node.nodeValue;
    }
  });
  old.slice(fresh.length).forEach((node) => node.remove());
}
