<?php
// A backend in PHP without a library: the NATS protocol over a socket.
//
//   php backend.php answer SUBJECT           answer authentication requests of gateways
//   php backend.php publish USER DATA [ID]   publish a notification and print the acknowledgement
//
// NATS_SERVER is the address of NATS; default 127.0.0.1:4222.

final class Nats
{
    private $socket;

    public function __construct(string $server)
    {
        $this->socket = stream_socket_client("tcp://$server", $code, $error, 5);
        if (!$this->socket) {
            throw new RuntimeException("connect to $server: $error");
        }
        // The server sends a ping every two minutes. After three minutes without data, the connection is dead.
        stream_set_timeout($this->socket, 180);
        $options = ['name' => 'backend.php', 'lang' => 'php', 'version' => PHP_VERSION,
            'verbose' => false, 'pedantic' => false, 'headers' => true, 'no_responders' => true];
        $this->send('CONNECT ' . json_encode($options) . "\r\n");
    }

    /** Subscribes. Of all subscribers with the same queue, only one gets each message. */
    public function subscribe(string $subject, string $queue = ''): void
    {
        $this->send("SUB $subject $queue 1\r\nPING\r\n");
        while ($this->line() !== 'PONG') { // the server has processed the subscription, or reports an error
        }
    }

    /** Publishes. Headers are lines such as "Nats-Msg-Id: 1". */
    public function publish(string $subject, string $data, string $reply = '', array $headers = []): void
    {
        $head = $headers ? "NATS/1.0\r\n" . implode("\r\n", $headers) . "\r\n\r\n" : '';
        $sizes = ($head ? strlen($head) . ' ' : '') . strlen($head . $data);
        $this->send(($head ? 'HPUB' : 'PUB') . " $subject $reply $sizes\r\n$head$data\r\n");
    }

    /** Publishes and returns the reply. */
    public function request(string $subject, string $data, array $headers = []): string
    {
        $inbox = '_INBOX.' . bin2hex(random_bytes(12));
        $this->subscribe($inbox);
        stream_set_timeout($this->socket, 5);
        $this->publish($subject, $data, $inbox, $headers);
        ['headers' => $head, 'data' => $answer] = $this->next();
        if (str_starts_with($head, 'NATS/1.0 503')) {
            throw new RuntimeException("no subscriber to $subject");
        }
        return $answer;
    }

    /** Waits for the next message. */
    public function next(): array
    {
        do { // MSG subject sid [reply] size, HMSG subject sid [reply] size-of-headers size
            $words = explode(' ', $this->line());
        } while ($words[0] !== 'MSG' && $words[0] !== 'HMSG');
        $size = (int) array_pop($words);
        $head = $words[0] === 'HMSG' ? (int) array_pop($words) : 0;
        $body = stream_get_contents($this->socket, $size + 2);
        if ($body === false || strlen($body) < $size + 2) {
            throw new RuntimeException('the connection to NATS broke');
        }
        return ['subject' => $words[1], 'reply' => $words[3] ?? '',
            'headers' => substr($body, 0, $head), 'data' => substr($body, $head, $size - $head)];
    }

    private function line(): string
    {
        while (($line = fgets($this->socket)) !== false) {
            $line = rtrim($line, "\r\n");
            if (str_starts_with($line, '-ERR')) {
                throw new RuntimeException("NATS says $line");
            }
            if ($line !== 'PING') {
                return $line;
            }
            $this->send("PONG\r\n");
        }
        throw new RuntimeException('NATS does not answer');
    }

    private function send(string $bytes): void
    {
        if (fwrite($this->socket, $bytes) !== strlen($bytes)) {
            throw new RuntimeException('the connection to NATS broke');
        }
    }
}

$nats = new Nats(getenv('NATS_SERVER') ?: '127.0.0.1:4222');
[, $command, $first, $data, $id] = $argv + ['', '', '', '', ''];

if ($command === 'answer') {
    $nats->subscribe($first, 'backend');
    echo "answering on $first\n";
    $users = ['token-1' => 1, 'token-2' => 2]; // replace this with a lookup of the session
    while (true) {
        ['reply' => $reply, 'data' => $token] = $nats->next();
        $user = $users[$token] ?? null;
        $answer = $user ? ['success' => true, 'user_id' => $user] : ['success' => false, 'error' => 'token_unknown'];
        $nats->publish($reply, json_encode($answer));
    }
}
if ($command === 'publish') {
    $name = strtr(rawurlencode($first), ['.' => '%2E', '~' => '%7E']);
    // NATS detects duplicates by Nats-Msg-Id within the whole stream, so the id includes the user.
    $headers = $id === '' ? [] : ["Nats-Msg-Id: user.$name.$id", "Tidings-Id: $id"];
    $acknowledgement = json_decode($nats->request("notify.user.$name", $data, $headers), true);
    if (!isset($acknowledgement['seq'])) {
        throw new RuntimeException('not stored: ' . json_encode($acknowledgement));
    }
    echo 'stored, seq ', $acknowledgement['seq'], empty($acknowledgement['duplicate']) ? '' : ', once more', "\n";
    exit(0);
}
fwrite(STDERR, "usage: php backend.php answer SUBJECT | publish USER DATA [ID]\n");
exit(2);
