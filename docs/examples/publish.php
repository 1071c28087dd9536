<?php
// Publish a notification with php-amqplib: php publish.php CHANNEL JSON
require __DIR__ . '/vendor/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Message\AMQPMessage;

/** Keeps a connection open as long as the process lives. */
final class Publisher
{
    private ?AMQPChannel $channel = null;
    private string $outcome = '';

    public function __construct(private string $url)
    {
    }

    /** Returns when the broker has it. Throws RuntimeException when no stream is bound to the exchange, or when the
     * broker stays away. */
    public function publish(string $name, mixed $data): void
    {
        $message = new AMQPMessage(json_encode($data, JSON_THROW_ON_ERROR), [
            'message_id' => bin2hex(random_bytes(16)), // the same at every try, so that no client gets it twice
            'content_type' => 'application/json',
            'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
        ]);
        foreach ([0.5, 1, 2, 4, 8, null] as $pause) {
            try {
                $this->outcome = 'nothing';
                $channel = $this->open();
                $channel->basic_publish($message, 'notifications', $name, true);
                $channel->wait_for_pending_acks_returns(10);
            } catch (AMQPExceptionInterface $error) { // perhaps it has it all the same: try again
                $this->channel = null;
                $this->outcome = $error->getMessage();
            }
            if ($this->outcome === 'confirmed') {
                return;
            }
            if ($this->outcome === 'returned') {
                throw new RuntimeException('no stream is bound to the exchange');
            }
            if ($pause !== null) {
                usleep((int) ($pause * 1e6));
            }
        }
        throw new RuntimeException("the broker did not confirm: {$this->outcome}");
    }

    private function open(): AMQPChannel
    {
        if ($this->channel === null) {
            $at = parse_url($this->url);
            $vhost = rawurldecode(substr($at['path'] ?? '', 1)) ?: '/';
            $connection = new AMQPStreamConnection(
                $at['host'], $at['port'] ?? 5672, $at['user'], $at['pass'], $vhost,
                read_write_timeout: 10.0, channel_rpc_timeout: 10.0
            );
            $this->channel = $connection->channel();
            $this->channel->confirm_select();
            // A message that was returned is confirmed after that.
            $this->channel->set_return_listener(fn () => $this->outcome = 'returned');
            $this->channel->set_ack_handler(fn () => $this->outcome === 'returned' ?: $this->outcome = 'confirmed');
            $this->channel->set_nack_handler(fn () => $this->outcome = 'refused');
        }
        return $this->channel;
    }
}

$publisher = new Publisher(getenv('AMQP_URL') ?: 'amqp://guest:guest@localhost/');
$publisher->publish($argv[1], json_decode($argv[2], flags: JSON_THROW_ON_ERROR));
echo "confirmed\n";
