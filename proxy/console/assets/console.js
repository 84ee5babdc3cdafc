// Brings the page's main part anew from time to time. Without this script the page is complete, and stands still.
"use strict";

(() => {
  const EVERY = 10_000;
  const live = document.getElementById("live");
  const status = document.createElement("span");
  const button = document.createElement("button");
  let paused = false;

  status.setAttribute("role", "status");
  button.type = "button";
  button.className = "plain";
  live.append(status, button);

  const show = (text) => {
    status.textContent = text;
    button.textContent = paused ? "Go on updating" : "Pause updates";
  };

  // A reader who types, selects or has opened a choice is not disturbed.
  const isInUse = () => {
    const main = document.getElementById("main");
    const selection = document.getSelection();
    const within = document.activeElement;
    const selects = selection && !selection.isCollapsed && main.contains(selection.anchorNode);
    return selects || (main.contains(within) && within.matches("input"));
  };

  const keep = (from, to) => {
    const places = (main) => [...main.querySelectorAll("details, a[href], summary, [tabindex], button")];
    const before = places(from);
    const after = places(to);
    before.forEach((one, place) => {
      if (one.matches("details") && after[place]?.matches("details")) {
        after[place].open = one.open;
      }
    });
    return after[before.indexOf(document.activeElement)];
  };

  const refresh = async () => {
    if (paused || document.hidden || isInUse()) {
      return;
    }
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "error" });
      if (!answer.ok) {
        show(answer.status === 401 ? "The session has ended; reload the page." : "The page could not be updated.");
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const [main, next] = [document.getElementById("main"), fresh.getElementById("main")];
      const [made, madeNext] = [document, fresh].map((page) => page.querySelector("footer p"));
      if (!next || isInUse()) {
        return;
      }
      if (main.innerHTML !== next.innerHTML) {
        const focused = keep(main, next);
        main.replaceWith(document.adoptNode(next));
        focused?.focus({ preventScroll: true });
      }
      made.replaceWith(document.adoptNode(madeNext));
      show("Updates every 10 seconds.");
    } catch {
      show("The gateway does not answer.");
    }
  };

  button.addEventListener("click", () => {
    paused = !paused;
    show(paused ? "Paused." : "Updates every 10 seconds.");
  });
  show("Updates every 10 seconds.");
  setInterval(refresh, EVERY);
})();
