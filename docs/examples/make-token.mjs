// Make a token with nothing but Node: node make-token.mjs USER [CHANNEL]
import { createHmac } from "node:crypto";

const key = process.env.TOKEN_KEY; // the same as in auth.hmac_keys

function sign(claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${message}.${createHmac("sha256", key).update(message).digest("base64url")}`;
}

const now = () => Math.floor(Date.now() / 1000);

// For whoever is logged in: `user` is your session's, a string, never what a page says it is.
const connectionToken = (user, roles = [], ttl = 600) => sign({ sub: user, roles, iat: now(), exp: now() + ttl });

// For one channel. Look first whether this user may have it.
const subscriptionToken = (user, channel, ttl = 600) => sign({ sub: user, channel, iat: now(), exp: now() + ttl });

const [user, channel] = process.argv.slice(2);
console.log(channel ? subscriptionToken(user, channel) : connectionToken(user));
