// Publish a notification with amqplib: node publish.mjs CHANNEL JSON
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import amqp from "amqplib";

const url = process.env.AMQP_URL ?? "amqp://guest:guest@localhost/";

class Unroutable extends Error {}

// Keeps a connection open. `publish` resolves when the broker has it, and rejects with Unroutable when no stream is
// bound to the exchange, with another error when the broker stays away.
class Publisher {
  #opened = null;

  async publish(channel, data) {
    const options = {
      messageId: randomUUID(), // the same at every try, so that no client gets it twice
      contentType: "application/json",
      persistent: true,
      mandatory: true,
    };
    for (const pause of [500, 1000, 2000, 4000, 8000, null]) {
      try {
        return await this.#send(channel, Buffer.from(JSON.stringify(data)), options);
      } catch (error) {
        if (error instanceof Unroutable || pause === null) throw error;
        await sleep(pause); // perhaps it has it all the same: try again
      }
    }
  }

  async close() {
    await (await this.#opened)?.connection.close();
  }

  async #send(key, body, options) {
    const { connection, channel, returned } = await (this.#opened ??= this.#open());
    const silent = () => connection.connection.stream.destroy(new Error("no confirm within 10 s"));
    const timer = setTimeout(silent, 10_000);
    try {
      await new Promise((resolve, reject) => {
        channel.publish("notifications", key, body, options, (error) => (error ? reject(error) : resolve()));
      });
    } finally {
      clearTimeout(timer);
    }
    if (returned.delete(options.messageId)) throw new Unroutable("no stream is bound to the exchange");
  }

  async #open() {
    const forget = () => (this.#opened = null);
    try {
      const connection = await amqp.connect(url, { timeout: 10_000 });
      connection.on("error", forget).on("close", forget);
      const channel = await connection.createConfirmChannel();
      const returned = new Set(); // a message that was returned is confirmed after that
      channel.on("return", ({ properties }) => returned.add(properties.messageId));
      channel.on("error", forget).on("close", forget);
      return { connection, channel, returned };
    } catch (error) {
      forget();
      throw error;
    }
  }
}

const publisher = new Publisher();
await publisher.publish(process.argv[2], JSON.parse(process.argv[3]));
await publisher.close();
console.log("confirmed");
