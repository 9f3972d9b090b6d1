"use strict";
// A page follows what it shows: the server sends parts of it as HTML, and what differs is changed where it stands, so that
// focus, selection, scrolling and what was unfolded stay. Without a script the page is loaded again every ten seconds.
(() => {
  document.documentElement.classList.add("scripted"); // else there are no buttons that need a script
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-opens]");
    if (button) document.getElementById(button.dataset.opens).showModal();
  });

  const address = document.body.dataset.events, lost = document.getElementById("lost");
  if (!address) return;

  const change = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const {name} of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    within(old, fresh);
  };
  const within = (old, fresh) => {
    const before = [...old.childNodes], after = [...fresh.childNodes];
    after.forEach((node, i) => before[i] ? change(before[i], node) : old.append(node));
    before.slice(after.length).forEach(node => node.remove());
  };
  const part = name => [...document.querySelectorAll("[data-part]")].find(element => element.dataset.part === name);

  let source = null, heard = new Date();
  const follow = () => {
    source = new EventSource(address);
    source.onmessage = event => {
      heard = new Date();
      lost.hidden = true;
      for (const [name, html] of Object.entries(JSON.parse(event.data))) {
        const place = part(name), fresh = document.createElement("template");
        if (!place) return location.reload(); // another study is there
        fresh.innerHTML = html;
        within(place, fresh.content);
      }
    };
    source.onerror = () => {
      lost.textContent = `The server does not answer: this is as of ${heard.toLocaleTimeString()}. Is resnetlab serve, and the tunnel to it, still running?`;
      lost.hidden = false;
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
    };
  };
  // A hidden page asks for nothing: a browser has few connections to one server.
  const attend = () => {
    if (source) source.close();
    if (!document.hidden) follow();
  };
  document.addEventListener("visibilitychange", attend);
  attend();
})();
