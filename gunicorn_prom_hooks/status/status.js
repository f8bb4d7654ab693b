// Refreshes the status page: fetches it again and patches what has changed in place, so that scroll position, focus
// and selection stay. Texts come from a parsed copy of the same page; none is used as markup.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const TIMEOUT_MS = 8000;
  const main = document.getElementById("main");
  const heading = document.querySelector("h1");
  const state = document.getElementById("state");
  const button = document.getElementById("pause");
  let paused = false;
  let timer = 0;
  let request = null;

  function show(text, kind) {
    if (state.textContent !== text) {
      state.textContent = text; // a live region: only changes are read out
    }
    document.documentElement.dataset.state = kind;
  }

  // Repeats until the page is paused or its tab hidden; the button, or the tab once it is shown, starts it again.
  async function refresh() {
    clearTimeout(timer);
    if (request || paused || document.hidden) {
      return;
    }
    request = new AbortController();
    const timeout = setTimeout(() => request.abort(), TIMEOUT_MS);
    try {
      const response = await fetch("./", { cache: "no-store", signal: request.signal });
      if (!response.ok) {
        throw new Error(`status ${response.status}`);
      }
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      if (!fresh.getElementById("main")) {
        throw new Error("not the status page");
      }
      if (!paused) {
        keepingSelection(() => {
          patch(heading, fresh.querySelector("h1")); // a reload can change the application's name
          patch(main, fresh.getElementById("main"));
        });
        if (document.title !== fresh.title) {
          document.title = fresh.title;
        }
        show("Live", "live");
      }
    } catch {
      if (!paused && !document.hidden) {
        show(`Stale since ${document.getElementById("as-of").textContent}`, "stale");
      }
    } finally {
      clearTimeout(timeout);
      request = null;
      timer = setTimeout(refresh, EVERY_MS);
    }
  }

  // Makes the old node equal to the fresh one, and leaves equal parts untouched.
  function patch(old, fresh) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) {
        old.data = fresh.data;
      }
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) {
        old.removeAttribute(name);
      }
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) {
        old.setAttribute(name, value);
      }
    }
    patchChildren(old, [...fresh.childNodes]);
  }

  function patchChildren(parent, fresh) {
    const keyed = new Map([...parent.children].filter(keyOf).map((child) => [keyOf(child), child]));
    const wanted = new Set(fresh.map(keyOf).filter(Boolean));
    let at = parent.firstChild;
    for (const node of fresh) {
      const key = keyOf(node);
      while (at && keyOf(at) && !wanted.has(keyOf(at))) {
        at = drop(at); // a removed row: the rows after it need not move
      }
      let found = key ? keyed.get(key) : at && !keyOf(at) ? at : null;
      keyed.delete(key);
      if (found && found.nodeName !== node.nodeName) {
        found = null;
      }
      if (found) {
        patch(found, node);
      } else {
        found = document.importNode(node, true);
      }
      if (found === at) {
        at = at.nextSibling;
      } else {
        parent.insertBefore(found, at);
      }
    }
    while (at) {
      at = drop(at);
    }
  }

  function drop(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  function keyOf(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id : "";
  }

  // A text that changes loses its end of the selection, which is restored here.
  function keepingSelection(change) {
    const selection = document.getSelection();
    const { anchorNode, anchorOffset, focusNode, focusOffset, isCollapsed } = selection;
    change();
    if (isCollapsed || !anchorNode || !focusNode || !anchorNode.isConnected || !focusNode.isConnected) {
      return;
    }
    if (selection.anchorNode !== anchorNode || selection.anchorOffset !== anchorOffset ||
        selection.focusNode !== focusNode || selection.focusOffset !== focusOffset) {
      const within = (node, offset) => Math.min(offset, node.data === undefined ? node.childNodes.length : node.length);
      selection.setBaseAndExtent(anchorNode, within(anchorNode, anchorOffset), focusNode, within(focusNode, focusOffset));
    }
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    if (paused) {
      show("Paused", "paused");
    } else {
      refresh();
    }
  });
  document.addEventListener("visibilitychange", refresh);

  button.hidden = false;
  show("Live", "live");
  timer = setTimeout(refresh, EVERY_MS);
})();
