"use strict";
(() => {
  const INTERVAL = 5000; // milliseconds between two updates
  const TIMEOUT = 4000; // timeout in milliseconds
  const stale = document.getElementById("stale");
  const pause = document.getElementById("pause");
  const form = document.getElementById("explain-form");
  const result = document.getElementById("explain-result");
  let updated = new Date();
  let paused = false;

  const page = async (url, statuses) => {
    const response = await fetch(url, {
      headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT),
    });
    if (!statuses.includes(response.status)) throw new Error(String(response.status));
    return new DOMParser().parseFromString(await response.text(), "text/html");
  };

  // Keep text that the user selects to copy it.
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

  const update = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other && other.outerHTML !== part.outerHTML && !isSelected(part)) replace(part, other);
    }
    document.title = fresh.title;
  };

  const refresh = async () => {
    try {
      update(await page(form.dataset.status, [200]));
      updated = new Date();
      stale.textContent = "";
    } catch {
      stale.textContent = `No response since ${updated.toLocaleTimeString()}: this page is out of date.`;
    }
  };

  const loop = async () => {
    if (!paused && !document.hidden) await refresh();
    setTimeout(loop, INTERVAL);
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
    if (!paused) refresh();
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) refresh();
  });
  document.documentElement.classList.add("script");
  setTimeout(loop, INTERVAL);
})();
