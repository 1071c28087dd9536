// Publish a notification with com.rabbitmq:amqp-client: java -cp "lib/*" Publish.java CHANNEL JSON
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeoutException;

/** Keeps a connection open. For one thread: channels are not shared. */
public class Publish implements AutoCloseable {
    private static final long[] PAUSES_MS = {500, 1000, 2000, 4000, 8000};

    private final ConnectionFactory factory = new ConnectionFactory();
    private final Set<String> returned = ConcurrentHashMap.newKeySet();
    private Connection connection;
    private Channel channel;

    Publish(String url) throws Exception {
        factory.setUri(url);
        factory.setAutomaticRecoveryEnabled(false); // publish() opens a new one itself
        factory.setChannelRpcTimeout(10_000);
    }

    /**
     * Returns when the broker has it.
     *
     * @throws IllegalStateException no stream is bound to the exchange
     * @throws IOException the broker stays away, or refuses it
     */
    void publish(String name, String json) throws Exception {
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                .messageId(UUID.randomUUID().toString()) // the same at every try, so that no client gets it twice
                .contentType("application/json")
                .deliveryMode(2)
                .build();
        for (int attempt = 0; ; attempt++) {
            try {
                open();
                channel.basicPublish(
                        "notifications", name, true, properties, json.getBytes(StandardCharsets.UTF_8));
                if (channel.waitForConfirms(10_000)) break;
                throw new IOException("the broker refused it");
            } catch (IOException | TimeoutException | ShutdownSignalException error) {
                close(); // perhaps it has it all the same: try again
                if (attempt == PAUSES_MS.length) throw error;
                Thread.sleep(PAUSES_MS[attempt]);
            }
        }
        if (returned.remove(properties.getMessageId())) {
            throw new IllegalStateException("no stream is bound to the exchange");
        }
    }

    private void open() throws IOException, TimeoutException {
        if (channel != null && channel.isOpen()) return;
        connection = factory.newConnection();
        channel = connection.createChannel();
        channel.confirmSelect();
        // A message that was returned is confirmed after that.
        channel.addReturnListener(message -> returned.add(message.getProperties().getMessageId()));
    }

    @Override
    public void close() {
        if (connection != null) connection.abort(1_000);
        connection = null;
        channel = null;
    }

    public static void main(String[] words) throws Exception {
        String url = System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@localhost");
        try (Publish publisher = new Publish(url)) {
            publisher.publish(words[0], words[1]);
        }
        System.out.println("confirmed");
    }
}
