import { useEffect, useState } from "react";

// The notifications of a channel by their id: what `load` fetches from your backend, and each one that arrives.
// `state` is "subscribing", "subscribed" or "unsubscribed" (refused). Several components may use the same channel.
// `load` must be the same function at every render: define it outside, or with useCallback.
export function useChannel(client, channel, load) {
  const [items, setItems] = useState(new Map());
  const [state, setState] = useState("subscribing");

  useEffect(() => {
    let gone = false;
    const put = (more) => gone || setItems((old) => new Map([...old, ...more.map((item) => [item.id, item])]));
    const fetchAll = () => load().then(put, () => gone || setTimeout(fetchAll, 2000));
    const handlers = {
      subscribing: () => setState("subscribing"),
      subscribed: ({ recovered }) => {
        setState("subscribed");
        if (!recovered) fetchAll(); // the first time, or away for longer than the history
      },
      publication: ({ data }) => put([data]),
      unsubscribed: () => setState("unsubscribed"),
    };

    const subscription = client.getSubscription(channel) ?? client.newSubscription(channel);
    for (const [name, handler] of Object.entries(handlers)) subscription.on(name, handler);
    setItems(new Map());
    setState(subscription.state === "subscribed" ? "subscribed" : "subscribing");
    if (subscription.state === "subscribed") fetchAll(); // by another component
    subscription.subscribe();

    return () => {
      gone = true;
      for (const [name, handler] of Object.entries(handlers)) subscription.off(name, handler);
      if (subscription.listenerCount("publication") > 0) return; // of another component
      subscription.unsubscribe();
      client.removeSubscription(subscription);
    };
  }, [client, channel, load]);

  return { items: [...items.values()], state };
}
