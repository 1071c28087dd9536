import { useChannel } from "./useChannel.js";

export function Inbox({ client, user, load }) {
  const { items, state } = useChannel(client, `user.${user}`, load);
  return (
    <section aria-busy={state === "subscribing"}>
      {state === "unsubscribed" && <p role="alert">You may not see these notifications.</p>}
      <ul>
        {items.map(({ id, text }) => (
          <li key={id}>{text}</li>
        ))}
      </ul>
    </section>
  );
}
