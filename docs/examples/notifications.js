import { Centrifuge, UnauthorizedError } from "centrifuge";

// One client for the whole page: all its channels share one connection.
export function connect(url, tokenUrl) {
  const client = new Centrifuge(url, {
    getToken: async () => {
      const answer = await fetch(tokenUrl, { credentials: "include" });
      if (answer.status === 401 || answer.status === 403) throw new UnauthorizedError(); // logged out: no more tries
      if (!answer.ok) throw new Error(`no token: ${answer.status}`); // the client tries again
      return answer.text();
    },
  });
  client.on("error", ({ error }) => console.warn("notifications:", error.message)); // it tries again
  client.on("disconnected", ({ code, reason }) => console.error("notifications ended:", code, reason)); // for good
  client.connect();
  return client;
}

// Hands `put` lists of notifications: what `load` fetches from your backend, and each one that arrives. The same one
// may come both ways, so keep them by their id. Returns how to stop.
export function follow(client, channel, { put, load, ended }) {
  const subscription = client.newSubscription(channel);
  let stopped = false;
  const fetchAll = async () => {
    try {
      const items = await load();
      if (!stopped) put(items);
    } catch {
      if (!stopped) setTimeout(fetchAll, 2000);
    }
  };
  subscription.on("subscribed", ({ recovered }) => {
    if (!recovered) fetchAll(); // the first time, or away for longer than the history: something may be missing
  });
  subscription.on("publication", ({ data }) => put([data]));
  subscription.on("unsubscribed", ({ code, reason }) => stopped || ended?.(code, reason)); // refused
  subscription.subscribe();
  return () => {
    stopped = true;
    subscription.unsubscribe();
    client.removeSubscription(subscription);
  };
}
