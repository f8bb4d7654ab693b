// Keeps the status page fresh: fetches it anew and changes in place what has changed, so that scroll position, focus
// and selection stay. Texts come from a parsed copy of the same page; none is ever taken for markup.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const PATIENCE_MS = 8000;
  const main = document.getElementById("main");
  const state = document.getElementById("state");
  const button = document.getElementById("pause");
  let paused = false;
  let timer = 0;
  let asking = null;

  function say(text, kind) {
    if (state.textContent !== text) {
      state.textContent = text; // a live region: only what is new is read out
    }
    document.documentElement.dataset.state = kind;
  }

  // Goes on by itself until there is nobody to see it; then the button, or the tab that shows again, begins anew.
  async function refresh() {
    clearTimeout(timer);
    if (asking || paused || document.hidden) {
      return;
    }
    asking = new AbortController();
    const patience = setTimeout(() => asking.abort(), PATIENCE_MS);
    try {
      const answer = await fetch("./", { cache: "no-store", signal: asking.signal });
      if (!answer.ok) {
        throw new Error(`status ${answer.status}`);
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (!fresh) {
        throw new Error("not the status page");
      }
      if (!paused) {
        keepingSelection(() => patch(main, fresh));
        say("Live", "live");
      }
    } catch {
      if (!paused && !document.hidden) {
        say(`Stale since ${document.getElementById("as-of").textContent}`, "stale");
      }
    } finally {
      clearTimeout(patience);
      asking = null;
      timer = setTimeout(refresh, EVERY_MS);
    }
  }

  // Makes the old node the same as the fresh one, touching nothing that is the same already.
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
        at = drop(at); // a row that is gone: the rows after it need not move
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

  // A text that changes loses its end of the selection; here it gets it back.
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
      say("Paused", "paused");
    } else {
      refresh();
    }
  });
  document.addEventListener("visibilitychange", refresh);

  button.hidden = false;
  say("Live", "live");
  timer = setTimeout(refresh, EVERY_MS);
})();
