/* Dialogs: what changes something is asked before it is done. */

/* `fields` are elements; `act` is called when the person says yes, and may throw ApiError, which is shown. Answers
   whether it was done. */
function ask({title, text, fields = [], action, danger = true, act}) {
  return new Promise((resolve) => {
    const hint = make("p", {class: "hint bad", role: "alert"});
    const yes = make("button", {class: danger ? "main danger" : "main", id: "dialog-yes"}, action);
    const no = button("Cancel", () => dialog.close());
    const form = make("form", {},
      make("h1", {id: "dialog-title"}, title), text && make("p", {}, text), ...fields, hint, make("div", {class: "buttons"}, no, yes));
    const dialog = make("dialog", {"aria-labelledby": "dialog-title"}, form);
    let done = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      yes.disabled = true;
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        hint.textContent = error.message;
      } finally {
        yes.disabled = false;
      }
    });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(done); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function askDisconnect({user, client = ""}) {
  const title = client ? "Disconnect this connection?" : `Disconnect all connections of ${userName(user)}?`;
  const text = client ? `Client ${client} of ${userName(user)}.` : "On all nodes.";
  const again = make("input", {type: "checkbox", id: "may-return"});
  const done = await ask({
    title, text, action: "Disconnect",
    fields: [field("", make("span", {}, again, " Let the client connect again by itself"))],
    // 3000 to 3499: SDKs connect again. 3500 to 3999: they do not.
    act: () => api("disconnect", {user, client, disconnect: again.checked ? {code: 3000, reason: "disconnected by an operator"} : {code: 3503, reason: "force disconnect"}}),
  });
  if (done) toast(client ? "Disconnected." : `All connections of ${userName(user)} are disconnected.`);
  return done;
}

async function askRevoke(user = "") {
  const kinds = [["user", "All tokens of a user that were issued until now"], ["token", "One token, by its id (jti)"], ["all", "All tokens of everybody that were issued until now"]];
  const radios = kinds.map(([value, text], i) => field("", make("span", {}, make("input", {type: "radio", name: "kind", value, checked: i === 0}), ` ${text}`)));
  const subject = input("revoke-subject", {value: user, required: true});
  const chosen = () => document.querySelector("input[name=kind]:checked").value;
  for (const radio of radios) radio.addEventListener("change", () => { subject.disabled = chosen() === "all"; });
  const done = await ask({
    title: "Revoke tokens", action: "Revoke", text: "What rests on them ends at once, on all nodes. This cannot be undone.",
    fields: [...radios, field("User or token id", subject)],
    act: () => api("revoke", chosen() === "all" ? {all: true} : {[chosen()]: subject.value}),
  });
  if (done) toast("Revoked.");
  return done;
}
