// Keeps the page up to date: the progress of runs by their events, everything else by fetching the page again.
"use strict";
(() => {
  // Browsers open about six connections to a server over HTTP/1.1; some have to stay free.
  const MAX_SOURCES = 4;
  const RENEW_MS = 30000;
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
  const live = document.getElementById("live");
  let sources = [];

  function bytesOf(done, all) {
    let unit = 0;
    while (all / 1024 ** (unit + 1) >= 1 && unit < UNITS.length - 1) unit += 1;
    const inUnit = (bytes) => (bytes / 1024 ** unit).toFixed(unit > 0 ? 1 : 0);
    return `${inUnit(done)} of ${inUnit(all)} ${UNITS[unit]}`;
  }

  function show(place, run) {
    const progress = run.progress;
    const parts = [`${progress.percent} %`];
    if (progress.phase) parts.push(progress.phase);
    if (progress.itemsTotal > 0) parts.push(`${progress.itemsCompleted} of ${progress.itemsTotal} items`);
    if (progress.bytesTotal > 0) parts.push(bytesOf(progress.bytesCompleted, progress.bytesTotal));
    place.querySelector("progress").value = progress.percent;
    place.querySelector("[data-measure]").textContent = parts.join(" · ");
    const waits = place.querySelector("[data-waits]");
    waits.hidden = !progress.waitsFor;
    waits.textContent = progress.waitsFor ? `Waits: ${progress.waitsFor}` : "";
  }

  function follow() {
    sources.forEach((source) => source.close());
    const places = [...document.querySelectorAll("[data-events]")].slice(0, MAX_SOURCES);
    sources = places.map((place) => {
      const source = new EventSource(place.dataset.events);
      const update = (event) => show(place, JSON.parse(event.data));
      source.addEventListener("started", update);
      source.addEventListener("progress", update);
      source.addEventListener("finished", () => {
        source.close();
        renew();
      });
      return source;
    });
  }

  async function renew() {
    if (document.hidden) return;
    let next;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
      next = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch (error) {
      live.textContent = `Not up to date: ${error.message}`;
      return;
    }
    live.textContent = "";
    const main = document.querySelector("main");
    const fresh = next.querySelector("main");
    if (!fresh || fresh.innerHTML === main.innerHTML) return;
    const isUsed = main !== document.activeElement && main.contains(document.activeElement);
    if (isUsed || !getSelection().isCollapsed) {
      // A reader who uses the keyboard would lose their place.
      live.textContent = "There is news: reload the page.";
      return;
    }
    for (const details of main.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector(`#${CSS.escape(details.id)}`);
      if (same) same.open = true;
    }
    const oldLog = main.querySelector(".log");
    const freshLog = fresh.querySelector(".log");
    main.replaceWith(fresh);
    if (oldLog && freshLog) freshLog.scrollTop = oldLog.scrollTop;
    document.title = next.title;
    follow();
  }

  follow();
  setInterval(renew, RENEW_MS);
  document.addEventListener("visibilitychange", renew);
})();
