// follow("/sse?channels=user.42,news.today", { put, load, ended }): the same with nothing but EventSource.
export function follow(url, { put, load, ended }) {
  const source = new EventSource(url, { withCredentials: true }); // the cookie with the token
  const fetchAll = async () => {
    try {
      put(await load());
    } catch {
      if (source.readyState !== EventSource.CLOSED) setTimeout(fetchAll, 2000);
    }
  };
  source.addEventListener("notifier.subscribed", ({ data }) => {
    if (!JSON.parse(data).recovered) fetchAll(); // the first time, or away for longer than the history
  });
  source.onmessage = ({ data }) => put([JSON.parse(data)]); // those with a `type`: addEventListener(type, …)
  source.onerror = () => {
    // Otherwise the browser comes back by itself, and goes on where it was.
    if (source.readyState === EventSource.CLOSED) ended?.(); // refused: no token, or not for this user
  };
  return () => source.close();
}
