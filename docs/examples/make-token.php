<?php
// Make a token with nothing but PHP: php make-token.php USER [CHANNEL]

function sign(array $claims, string $key): string
{
    $encode = fn (string $text) => rtrim(strtr(base64_encode($text), '+/', '-_'), '=');
    $message = $encode('{"alg":"HS256","typ":"JWT"}') . '.' . $encode(json_encode($claims, JSON_THROW_ON_ERROR));
    return $message . '.' . $encode(hash_hmac('sha256', $message, $key, true));
}

$key = getenv('TOKEN_KEY'); // the same as in auth.hmac_keys
$times = ['iat' => time(), 'exp' => time() + 600];

// `sub` is your session's user, a string, never what a page says it is. With `channel` it is a token for that one
// channel: look first whether this user may have it.
$claims = isset($argv[2]) ? ['channel' => $argv[2]] : ['roles' => []];
echo sign(['sub' => $argv[1]] + $claims + $times, $key), "\n";
