/* global quernCharts -- the page's charts stand before this script */
/** Keeps a page that `quern watch` serves as new as its runs: what changed is put in the place of what was there. */
(() => {
  const sign = document.querySelector(".live");
  const say = (text, isGood) => {
    sign.textContent = text;
    sign.classList.toggle("lost", !isGood);
  };
  const isOpen = (part) => [...part.querySelectorAll("details")].map(({ open }) => open);
  let loading = false, isStale = false;

  /** The page anew; one at a time, and once more if it changed meanwhile. */
  async function load() {
    if (loading) return void (isStale = true);
    loading = true;
    try {
      do {
        isStale = false;
        const answer = await fetch(location.pathname, { cache: "no-store" });
        if (answer.ok) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } while (isStale);
    } catch {
      isStale = true; // the server went away in between: its next event brings the page
    } finally {
      loading = false;
    }
  }

  const texts = new Map(); // part's id → its markup as it came
  const partsOf = (page) => [...page.querySelectorAll("[data-part]")];
  for (const part of partsOf(document)) texts.set(part.id, undefined);

  function exchange(page) {
    const ids = partsOf(page).map(({ id }) => id);
    for (const part of partsOf(document)) if (!ids.includes(part.id)) part.remove();
    let before = document.querySelector("main").firstElementChild;
    document.title = page.title;
    const main = page.querySelector("main");
    document.querySelector("main").dataset.revision = main.dataset.revision;
    for (const part of partsOf(page)) {
      const old = document.getElementById(part.id);
      if (old && texts.get(part.id) === part.innerHTML) {
        before = old.nextElementSibling;
        continue;
      }
      texts.set(part.id, part.innerHTML);
      const fresh = document.importNode(part, true);
      if (!old) {
        document.querySelector("main").insertBefore(fresh, before);
        quernCharts.mount(fresh);
        continue;
      }
      const states = quernCharts.unmount(old), open = isOpen(old);
      old.replaceWith(fresh);
      fresh.querySelectorAll("details").forEach((one, i) => one.open = open[i] ?? one.open);
      quernCharts.mount(fresh, states);
      before = fresh.nextElementSibling;
    }
  }

  const events = new EventSource("events");
  events.onopen = () => say("live", true);
  events.onmessage = ({ data }) => {
    if (data !== document.querySelector("main").dataset.revision) load();
  };
  events.onerror = () => say("quern watch does not answer; what is shown may be old", false);
})();
