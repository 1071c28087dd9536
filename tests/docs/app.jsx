// A page that uses the examples of docs/clients.md, for test_clients.py. Bundled by esbuild.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Inbox } from "../../docs/examples/Inbox.jsx";
import * as events from "../../docs/examples/events.js";
import { connect, follow } from "../../docs/examples/notifications.js";

window.put = []; // lists, as they came
window.loads = 0;
window.ended = [];

const load = async () => {
  window.loads += 1;
  const answer = await fetch("/items");
  if (!answer.ok) throw new Error("not now");
  return answer.json();
};
const put = (items) => window.put.push(items);
const ended = (...why) => window.ended.push(why);

window.connectTo = (url) => (window.client = connect(url, "/token"));
window.follow = (channel) => (window.stop = follow(window.client, channel, { put, load, ended }));
window.listen = (url) => (window.stop = events.follow(url, { put, load, ended }));

function App({ client, user }) {
  const [count, setCount] = useState(2);
  window.show = setCount;
  return Array.from({ length: count }, (_, place) => <Inbox key={place} client={client} user={user} load={load} />);
}

window.render = (user) => {
  createRoot(document.getElementById("root")).render(
    <StrictMode>
      <App client={window.client} user={user} />
    </StrictMode>,
  );
};
