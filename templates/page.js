(() => {
  const news = new BroadcastChannel("grantd");
  const page = document.body.dataset;
  if (page.landed !== undefined) {
    news.postMessage({ code: page.code, integration: page.landed });
    if (page.done !== undefined) setTimeout(() => close(), 1500);
    return;
  }
  news.onmessage = () => location.reload();
  for (const link of document.querySelectorAll("a[data-popup]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(link.href, "grantd-connect", "popup,width=560,height=760");
    });
  }
  const live = document.querySelector("[data-live]");
  if (!live) return;
  const again = async () => {
    try {
      const answer = await fetch(location.href, { headers: { "X-Grantd-Live": "1" } });
      if (answer.status === 401) return location.reload();
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        live.replaceChildren(...fresh.querySelector("[data-live]").childNodes);
      }
    } catch {}
    setTimeout(again, 3000);
  };
  setTimeout(again, 3000);
})();
