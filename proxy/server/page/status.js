"use strict";
(() => {
  const EVERY = 5000; // milliseconds between two looks
  const PATIENCE = 4000; // milliseconds until a look has failed
  const stale = document.getElementById("stale");
  const pause = document.getElementById("pause");
  const form = document.getElementById("explain-form");
  const result = document.getElementById("explain-result");
  let seen = new Date();
  let paused = false;

  const page = async (url, statuses) => {
    const answer = await fetch(url, {
      headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
    });
    if (!statuses.includes(answer.status)) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // Somebody who marks text to copy it must not lose it.
  const isSelected = (part) => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
  };

  const replace = (part, fresh) => {
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
    part.replaceChildren(...document.importNode(fresh, true).childNodes);
    part.className = fresh.className;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const take = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other && other.outerHTML !== part.outerHTML && !isSelected(part)) replace(part, other);
    }
    document.title = fresh.title;
  };

  const look = async () => {
    try {
      take(await page(form.dataset.status, [200]));
      seen = new Date();
      stale.textContent = "";
    } catch {
      stale.textContent = `No answer since ${seen.toLocaleTimeString()}: what you see is old.`;
    }
  };

  const again = async () => {
    if (!paused && !document.hidden) await look();
    setTimeout(again, EVERY);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(new FormData(form));
    try {
      const fresh = await page(`${form.action}?${query}`, [200, 400]);
      replace(result, fresh.getElementById("explain-result"));
    } catch {
      form.submit();
    }
  });

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) look();
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) look();
  });
  document.documentElement.classList.add("script");
  setTimeout(again, EVERY);
})();
